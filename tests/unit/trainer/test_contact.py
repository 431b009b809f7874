"""When a trainer was last asked for anything: written seldom, read by whoever lives, wrong only on the safe side."""

import pathlib
from argparse import Namespace
from unittest.mock import patch

import pytest

from services.trainer import supervisor
from services.trainer.contact import Contact, Fence, Silence, since_boot
from services.trainer.launcher import supervisor_options


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fence(tmp_path: pathlib.Path) -> Fence:
    return Fence.within(tmp_path, 60.0)


def test_what_is_too_long_is_counted_from_the_last_question(fence: Fence, clock: Clock) -> None:
    contact, silence = Contact(fence, clock), Silence(fence, clock)
    for _ in range(10):
        clock.now += 59
        assert silence.too_long() == 0
        contact.note()
    clock.now += 59.9
    assert silence.too_long() == 0
    clock.now += 0.1
    assert silence.too_long() == 60


def test_without_any_question_it_is_counted_from_the_beginning(fence: Fence, clock: Clock) -> None:
    silence = Silence(fence, clock)
    clock.now += 59
    assert silence.too_long() == 0
    clock.now += 2
    assert silence.too_long() == 61


def test_a_question_from_before_a_supervisor_was_there_counts(fence: Fence, clock: Clock) -> None:
    Contact(fence, clock).note()
    clock.now += 50
    silence = Silence(fence, clock)
    clock.now += 10
    assert silence.too_long() == 60, "a supervisor that starts is no sign of a task manager"


def test_a_face_that_starts_again_is_no_sign_of_a_task_manager(fence: Fence, clock: Clock) -> None:
    Contact(fence, clock).note()
    silence = Silence(fence, clock)
    clock.now += 61
    Contact(fence, clock)
    assert silence.too_long() == 61


def test_it_is_written_seldom_however_often_somebody_asks(fence: Fence, clock: Clock) -> None:
    contact = Contact(fence, clock)
    written = set()
    for _ in range(60):
        contact.note()
        written.add(fence.path.read_text())
        clock.now += 1
    assert len(written) == 20


def test_the_last_question_is_known_to_a_twentieth_of_the_limit(fence: Fence, clock: Clock) -> None:
    contact, silence = Contact(fence, clock), Silence(fence, clock)
    contact.note()
    clock.now += 2.9
    contact.note()
    clock.now += 57.1
    assert silence.too_long() == 60


@pytest.mark.parametrize("text", [None, "", "soon", "2000"], ids=["gone", "empty", "no number", "before the machine was started"])
def test_what_cannot_be_read_changes_nothing(fence: Fence, clock: Clock, text: str | None) -> None:
    Contact(fence, clock).note()
    silence = Silence(fence, clock)
    assert silence.too_long() == 0
    fence.path.unlink()
    if text is not None:
        fence.path.write_text(text)
    clock.now += 60
    assert silence.too_long() == 60


def test_a_full_disk_does_not_break_the_answer(fence: Fence, clock: Clock) -> None:
    contact = Contact(fence, clock)
    with patch.object(pathlib.Path, "write_text", side_effect=OSError("no space left")):
        contact.note()
    assert not fence.path.exists()
    contact.note()
    assert float(fence.path.read_text()) == clock.now, "it is tried again at once"


def test_without_a_fence_nothing_is_written(tmp_path: pathlib.Path, clock: Clock) -> None:
    Contact(None, clock).note()
    assert list(tmp_path.iterdir()) == []


def test_no_half_written_number_is_ever_read(fence: Fence, clock: Clock) -> None:
    Contact(fence, clock).note()
    assert [path.name for path in fence.path.parent.iterdir()] == ["contact"]


def test_the_clock_never_goes_back() -> None:
    assert since_boot() <= since_boot()


def test_a_supervisor_is_told_and_understands(fence: Fence, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _parsed(monkeypatch, None).fence == 0
    told = _parsed(monkeypatch, fence)
    assert Fence(told.contact, told.fence) == fence
    assert told.directory is None, "one that waits for its run is told, too"


def _parsed(monkeypatch: pytest.MonkeyPatch, fence: Fence | None) -> Namespace:
    monkeypatch.setattr("sys.argv", ["supervisor", *supervisor_options("m", 1.0, 1, 600.0, fence)])
    return supervisor._arguments()
