"""A run that floods its log is cut, told so, and heard again; what it reports is never cut."""

import json
from pathlib import Path

import pytest

from services.trainer.journal import Journal
from services.trainer.journal_reader import read
from services.trainer.log_room import LogRoom
from services.trainer.rank_output import RankOutput

LINE = 50 + 150
"""What a line of 50 characters counts."""


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_burst_is_taken_and_then_only_what_time_brings(clock: Clock) -> None:
    room = LogRoom(clock, burst=3 * LINE, rate=LINE)
    assert [room.takes("x" * 50) for _ in range(5)] == [True, True, True, False, False]
    clock.now += 1.5
    assert [room.takes("x" * 50) for _ in range(2)] == [True, False]
    assert (room.take_left_out(), room.take_left_out()) == (3, 0)
    clock.now += 0.5
    assert room.takes("x" * 50)


def test_a_quiet_hour_saves_no_more_than_a_burst(clock: Clock) -> None:
    room = LogRoom(clock, burst=2 * LINE, rate=LINE)
    clock.now += 3_600
    assert sum(room.takes("x" * 50) for _ in range(10)) == 2


def test_a_line_longer_than_the_room_is_left_out(clock: Clock) -> None:
    room = LogRoom(clock, burst=LINE, rate=1)
    assert not room.takes("x" * 51)
    assert room.takes("x" * 50)


def flooded(path: Path, room: LogRoom, *steps: tuple[str, bytes] | float, clock: Clock) -> list[dict]:
    with Journal.open(path) as journal:
        output = RankOutput(journal, room=room)
        for step in steps:
            if isinstance(step, float):
                clock.now += step
            else:
                output.feed(0, *step)
        output.end()
    return [record for record in read(path) if "sequence" in record]


def test_what_is_left_out_is_told_where_it_would_have_been(tmp_path: Path, clock: Clock) -> None:
    room = LogRoom(clock, burst=2 * LINE, rate=LINE)
    lines = ("stdout", (b"x" * 50 + b"\n") * 5)
    entries = flooded(tmp_path / "journal.jsonl", room, lines, 1.0, ("stderr", b"y" * 50 + b"\n"), lines, clock=clock)
    assert [(entry["rank"], entry["text"][:20]) for entry in entries] == [
        (0, "x" * 20),
        (0, "x" * 20),
        (-1, "3 lines were left ou"),
        (0, "y" * 20),
        (-1, "5 lines were left ou"),
    ]
    assert [entry["sequence"] for entry in entries] == [1, 2, 3, 4, 5]


def test_reports_are_never_left_out(tmp_path: Path, clock: Clock) -> None:
    room = LogRoom(clock, burst=LINE, rate=1)
    report = json.dumps({"kind": "metrics", "step": 1, "values": {"loss": 1.0}}).encode() + b"\n"
    entries = flooded(
        tmp_path / "journal.jsonl", room, ("stdout", b"x" * 50 + b"\nmore\n"), *[("events", report)] * 3, clock=clock
    )
    assert [entry["kind"] for entry in entries] == ["log", "metrics", "metrics", "metrics", "log"]
    assert entries[-1]["text"].startswith("1 line was left out")
