"""The verdict finds every kind of broken promise, and none where all is well."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import timestamp_pb2

from services.task_manager.conversion import state_to_proto
from services.task_manager.domain.task import State
from tests.faults.evidence import Evidence, Frame, Move, RunEvidence, TaskEvidence
from tests.faults.fake_run import artifact_of
from tests.faults.verdict import Told, judge, overlaps
from tunesmith.v1 import task_event_pb2

ID, REQUEST = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
Event = task_event_pb2.TaskEvent
LIFE = (State.QUEUED, State.STARTING, State.RUNNING, State.QUEUED, State.STARTING, State.RUNNING, State.SUCCEEDED)
ATTEMPTS = (0, 1, 1, 1, 2, 2, 2)


def change(sequence: int, attempt: int, to: State) -> Event:
    return Event(sequence=sequence, attempt=attempt, state_change=task_event_pb2.StateChange(to_state=state_to_proto(to)))


def line(sequence: int, attempt: int, number: int) -> Event:
    text = f"runs/{ID}-{attempt} says {number}"
    return Event(sequence=sequence, attempt=attempt, log_entry=task_event_pb2.LogEntry(text=text))


def frames() -> list[Frame]:
    """A first attempt that is lost after two lines, a second that succeeds after two."""
    return [
        Frame(0, [change(1, 0, State.QUEUED)]),
        Frame(1, [change(2, 1, State.STARTING), change(3, 1, State.RUNNING)]),
        Frame(1, [line(4, 1, 1), line(5, 1, 2)]),
        Frame(1, [change(6, 1, State.QUEUED)]),
        Frame(2, [change(7, 2, State.STARTING), change(8, 2, State.RUNNING)]),
        Frame(2, [line(9, 2, 1)]),
        Frame(2, [line(10, 2, 2), change(11, 2, State.SUCCEEDED)]),
    ]


def task(**changes: Any) -> TaskEvidence:
    moves = [Move(before, after, attempt) for before, after, attempt in zip((None, *LIFE[:-1]), LIFE, ATTEMPTS, strict=True)]
    values: dict[str, Any] = {"id": ID, "request_id": REQUEST, "state": State.SUCCEEDED, "attempt": 2, "head": 11}
    values |= {"artifact": artifact_of(f"runs/{ID}-2"), "moves": moves, "frames": frames()}
    return TaskEvidence(**values | changes)


def run(attempt: int, lines: int, end: str, **changes: Any) -> RunEvidence:
    return RunEvidence([line(number, attempt, number) for number in range(1, lines + 1)], end, **changes)


def evidence(**changes: Any) -> Evidence:
    runs = {f"runs/{ID}-1": [run(1, 3, "CANCELLED")], f"runs/{ID}-2": [run(2, 2, "SUCCEEDED")]}
    return Evidence([task(**changes)], runs)


def told() -> Told:
    return Told(created={REQUEST: ID})


def test_a_life_with_a_lost_attempt_is_well() -> None:
    assert judge(evidence(), told()) == []


def without(index: int) -> list[Frame]:
    return [frame for number, frame in enumerate(frames()) if number != index]


def with_frame(index: int, frame: Frame) -> list[Frame]:
    changed = frames()
    changed[index] = frame
    return changed


def moves_of(*states: State) -> list[Move]:
    return [Move(before, after, 0) for before, after in zip((None, *states[:-1]), states, strict=True)]


BROKEN: dict[str, tuple[str, Callable[[], tuple[Evidence, Told]]]] = {
    "a task that was acknowledged is gone": ("lost", lambda: (Evidence([], {}), told())),
    "a cancelling that was acknowledged has left no trace": ("lost", lambda: (evidence(), Told(cancelled={ID}))),
    "a request made two tasks": (
        "doubled",
        lambda: (Evidence([task(), task(id=REQUEST)], {}), told()),
    ),
    "a request was answered with another task": ("doubled", lambda: (evidence(), Told(created={REQUEST: "other"}))),
    "it waits for ever": ("stuck", lambda: (evidence(state=State.PAUSED), told())),
    "its run goes on for ever": ("stuck", lambda: (Evidence([task()], {f"runs/{ID}-2": [run(2, 2, "")]}), told())),
    "it came back from the dead": (
        "transition",
        lambda: (evidence(moves=moves_of(State.QUEUED, State.CANCELLED, State.RUNNING)), told()),
    ),
    "a move is missing": ("transition", lambda: (evidence(moves=[*task().moves[:2], *task().moves[3:]]), told())),
    "an attempt was used twice": (
        "transition",
        lambda: (evidence(moves=[dataclasses.replace(move, attempt=min(move.attempt, 1)) for move in task().moves]), told()),
    ),
    "a number was given twice": (
        "numbering",
        lambda: (evidence(frames=with_frame(5, Frame(2, [line(8, 2, 1)]))), told()),
    ),
    "a frame is missing": ("numbering", lambda: (evidence(frames=without(2)), told())),
    "an older epoch wrote behind a newer one": (
        "stale_write",
        lambda: (evidence(frames=with_frame(5, Frame(1, [line(9, 2, 1)]))), told()),
    ),
    "an older run's events are told as the newer one's": (
        "stale_write",
        lambda: (evidence(frames=with_frame(5, Frame(2, [line_of_another_run()]))), told()),
    ),
    "an event was stored twice": (
        "stale_write",
        lambda: (evidence(frames=with_frame(5, Frame(2, [line(9, 2, 1), line(9, 2, 1)]))), told()),
    ),
    "the artifact is the lost attempt's": (
        "two_trainers",
        lambda: (evidence(artifact=artifact_of(f"runs/{ID}-1")), told()),
    ),
    "two trainers have made it": (
        "two_trainers",
        lambda: (Evidence([task()], {f"runs/{ID}-2": [run(2, 2, "SUCCEEDED"), run(2, 2, "SUCCEEDED")]}), told()),
    ),
    "its last events are missing": (
        "incomplete",
        lambda: (Evidence([task()], evidence().runs | {f"runs/{ID}-2": [run(2, 3, "SUCCEEDED")]}), told()),
    ),
    "a process is left": (
        "survivor",
        lambda: (Evidence([task()], evidence().runs | {f"runs/{ID}-1": [run(1, 3, "CANCELLED", processes=1)]}), told()),
    ),
}  # fmt: skip


def line_of_another_run() -> Event:
    event = line(9, 1, 1)
    event.attempt = 2
    return event


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_promise_is_found(name: str) -> None:
    check, make = BROKEN[name]
    assert check in {finding.check for finding in judge(*make())}


def test_runs_that_work_at_the_same_time_are_found() -> None:
    def run(*seconds: int) -> RunEvidence:
        return RunEvidence([task_event_pb2.TaskEvent(time=timestamp_pb2.Timestamp(seconds=at)) for at in seconds], "FAILED")

    apart = {f"runs/{ID}-1": [run(1, 3)], f"runs/{ID}-2": [run(4, 6)], "runs/other-1": [run(2, 5)], f"runs/{ID}-3": [run()]}
    assert overlaps(Evidence([], apart)) == []
    [found] = overlaps(Evidence([], apart | {f"runs/{ID}-1": [run(1, 4)]}))
    assert (found.check, found.task) == ("two_trainers", f"runs/{ID}-1")


def test_what_was_deleted_is_not_lost() -> None:
    assert judge(Evidence([], {}), Told(created={REQUEST: ID}, deleted={ID})) == []
