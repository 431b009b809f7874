"""What `tunesmith up` shows."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from tunesmith.local.screen import Screen


@pytest.fixture
def output():
    return io.StringIO()


@pytest.fixture
def screen(output):
    return Screen(Console(file=output, width=40))


def test_the_first_line_says_version_place_and_how_to_stop(screen, output, tmp_path):
    screen.banner("1.2", tmp_path)
    assert output.getvalue() == f"tunesmith 1.2   data {tmp_path}   Ctrl-C stops everything; state is kept\n"


def test_a_place_at_home_is_written_short(screen, output):
    screen.banner("1.2", Path.home() / "somewhere")
    assert "data ~/somewhere" in output.getvalue()


def test_a_part_that_answers_has_a_tick_its_address_and_its_time(screen, output):
    screen.child_ready("storage", "127.0.0.1:50053", 1.25)
    assert output.getvalue().split() == ["✓", "storage", "127.0.0.1:50053", "1.2", "s"]


def test_when_all_answer_the_next_commands_are_shown(screen, output):
    screen.ready(12.3, {"gateway": "127.0.0.1:8080"}, "/elsewhere", "sk-1")
    assert "Ready in 12.3 s" in output.getvalue()
    assert "tunesmith demo" in output.getvalue()
    assert "OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=sk-1" in output.getvalue()
    assert "TUNESMITH_DATA_DIR=/elsewhere" in output.getvalue()


def test_long_lines_are_not_wrapped(screen, output):
    screen.report("storage", "x" * 200)
    assert len(output.getvalue().splitlines()) == 1
