"""Following a journal: order, idle signs, the end, and stopping in between."""

import asyncio
import contextlib

import pytest

from services.common.errors import InvalidArgument, ServiceError
from services.trainer.event_stream import check_cursor, follow
from services.trainer.history import End
from services.trainer.journal import Event, Journal
from services.trainer.run import State
from services.trainer.run_directory import RunDirectory


class Clock:
    """Goes on by a second each time it is asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def write(run: RunDirectory, count: int, end: bool = False) -> None:
    with Journal.open(run.journal) as journal:
        journal.events([Event("log", {"text": "x" * 500}) for _ in range(count)])
        if end:
            journal.control("end", state="SUCCEEDED", artifact="artifacts/a")


def following(run: RunDirectory, after: int = 0, stopping: asyncio.Event | None = None, idle: float = 1e9):
    return follow(run, after, stopping=stopping or asyncio.Event(), idle_seconds=idle, clock=Clock())


async def test_events_come_in_order_and_the_end_last(run: RunDirectory) -> None:
    write(run, 1200, end=True)
    *batches, end = [part async for part in following(run)]
    assert isinstance(end, End)
    assert (end.state, end.artifact) == (State.SUCCEEDED, "artifacts/a")
    assert [event["sequence"] for batch in batches for event in batch] == list(range(1, 1201))
    assert max(len(batch) for batch in batches) <= 500


async def test_a_cursor_at_the_head_of_an_ended_run_gets_only_the_end(run: RunDirectory) -> None:
    write(run, 10, end=True)
    [end] = [part async for part in following(run, after=10)]
    assert isinstance(end, End)


async def test_silence_is_broken_by_the_head(run: RunDirectory) -> None:
    write(run, 3)
    parts = following(run, idle=2)
    assert len(await anext(parts)) == 3
    assert await anext(parts) == 3
    assert await anext(parts) == 3
    write(run, 1, end=True)
    rest = [part async for part in parts if not isinstance(part, int)]
    assert [event["sequence"] for event in rest[0]] == [4]
    assert isinstance(rest[-1], End)


async def test_stopping_ends_the_stream_with_the_cursor(run: RunDirectory) -> None:
    write(run, 3)
    stopping = asyncio.Event()
    parts = following(run, stopping=stopping)
    await anext(parts)
    stopping.set()
    with pytest.raises(ServiceError) as caught:
        await anext(parts)
    assert (caught.value.reason, caught.value.metadata["after_sequence"]) == ("SERVER_STOPPING", "3")


async def test_a_run_without_a_journal_is_waited_for(run: RunDirectory) -> None:
    parts = following(run)
    first = asyncio.ensure_future(anext(parts))
    done, _ = await asyncio.wait({first}, timeout=0.05)
    assert not done
    write(run, 1)
    assert len(await first) == 1
    await parts.aclose()


async def test_a_slow_reader_costs_one_piece(run: RunDirectory) -> None:
    write(run, 5000, end=True)
    parts = following(run)
    first = await anext(parts)
    assert first[-1]["sequence"] <= 500
    with contextlib.suppress(StopAsyncIteration):
        await parts.aclose()


def test_a_cursor_must_be_one_the_journal_has(run: RunDirectory) -> None:
    write(run, 3)
    for cursor in (0, 1, 3):
        check_cursor(run, cursor)
    with pytest.raises(ServiceError) as caught:
        check_cursor(run, 4)
    assert (caught.value.reason, caught.value.metadata["head_sequence"]) == ("CURSOR_AHEAD", "3")
    with pytest.raises(InvalidArgument):
        check_cursor(run, -1)
