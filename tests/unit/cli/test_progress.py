"""The line that tells how far a file has come."""

import io
import sys

import pytest

from tunesmith.cli.progress import progress_text, transfer_progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Puts a terminal in the place of the standard error; to be called by the test, pytest sets its own before."""

    def put():
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        return terminal

    return put


@pytest.mark.parametrize(
    ("done", "total", "seconds", "text"),
    [
        (0, 2000, 0.0, f"f {'─' * 20} 0%  0 B of 2.0 kB"),
        (1000, 2000, 2.0, f"f {'━' * 10}{'─' * 10} 50%  1.0 kB of 2.0 kB  500 B/s  ETA 0:02"),
        (2000, 2000, 1.0, f"f {'━' * 20} 100%  2.0 kB of 2.0 kB  2.0 kB/s"),
        (1500, 0, 1.0, "f  1.5 kB  1.5 kB/s"),
    ],
)
def test_a_line_has_share_sizes_speed_and_what_is_left(done, total, seconds, text):
    assert progress_text("f", done, total, seconds) == text


def test_it_is_silent_where_nobody_watches(capsys):
    with transfer_progress("f") as draw:
        assert draw is None
    assert capsys.readouterr().err == ""


def test_one_line_is_redrawn_now_and_then_and_ended_once(terminal):
    screen, times = terminal(), iter([0.0, 1.0, 1.01, 1.02])
    with transfer_progress("f", lambda: next(times)) as draw:
        draw(500, 2000)
        draw(600, 2000)  # too soon to be seen
        draw(2000, 2000)
    written = screen.getvalue()
    assert written.count("\r") == 2
    assert "600 B" not in written
    assert written.endswith("2.0 kB/s\x1b[K\n")


def test_an_error_stands_on_a_line_of_its_own(terminal):
    screen = terminal()
    with pytest.raises(ConnectionError), transfer_progress("f") as draw:
        draw(1, 2)
        raise ConnectionError
    assert screen.getvalue().endswith("\n")


def test_what_was_never_drawn_leaves_no_line(terminal):
    screen = terminal()
    with transfer_progress("f"):
        pass
    assert screen.getvalue() == ""
