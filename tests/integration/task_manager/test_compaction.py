"""Compacted events are read as the others are, whatever happens while they are compacted."""

import asyncio
import datetime
import random
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from integration.task_manager.test_repositories import NO_REST, Owner, started
from stream_contract import check_stream
from stream_model import StreamModel

from services.common.errors import ServiceError, Unavailable
from services.common.postgres import Pool, transaction
from services.task_manager import compaction
from services.task_manager.compaction import Compaction
from services.task_manager.domain.claim import Claim
from services.task_manager.domain.task import Change, Retry, State
from services.task_manager.event_log import EventLog
from services.task_manager.history import History
from services.task_manager.hub import Hub
from services.task_manager.retry_repository import RetryRepository
from services.task_manager.servicer import utc_now
from services.task_manager.stream_messages import watch_response
from services.task_manager.watch import Watch
from tunesmith.v1 import task_event_pb2
from tunesmith.v1 import task_manager_service_pb2 as api

pytestmark = pytest.mark.integration

Event = task_event_pb2.TaskEvent


class Killed(BaseException):
    """The process is gone."""


class MemoryArchive:
    """Segments in a dict; `away` makes every call fail as storage does that cannot be reached."""

    def __init__(self) -> None:
        self.segments: dict[tuple[uuid.UUID, str], bytes] = {}
        self.away = False

    async def put_segment(self, task_id: uuid.UUID, sha256: str, content: bytes) -> None:
        self._require()
        self.segments[task_id, sha256] = content

    async def segment(self, task_id: uuid.UUID, sha256: str) -> bytes:
        self._require()
        return self.segments[task_id, sha256]

    async def forget_segments(self, task_id: uuid.UUID) -> None:
        self._require()
        self.segments = {name: content for name, content in self.segments.items() if name[0] != task_id}

    def _require(self) -> None:
        if self.away:
            raise Unavailable("STORAGE_UNAVAILABLE", "storage did not answer")


class World:
    """A task manager's stores with an archive, and short ways to use them."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.archive = pool, MemoryArchive()
        self.owner = Owner(pool)
        self.log = EventLog(pool, Hub(), self.archive)

    def compaction(self, rest: datetime.timedelta = NO_REST) -> Compaction:
        return Compaction(self.pool, self.archive, rest=rest)

    async def run(self, claim: Claim, events: Sequence[Event], sizes: Sequence[int]) -> None:
        """Appends the events of a run in groups of these sizes."""
        stored = 0
        for size in sizes:
            group = events[stored : stored + size]
            if group:
                stored = await self.owner.events.append(claim, stored, group, None)

    async def ended(self, count: int, *, seed: int = 0) -> uuid.UUID:
        """A task whose run had so many events and failed."""
        claim = (await self.owner.claimed()).claim
        await self.attempt(claim, count, random.Random(seed))
        return claim.task_id

    async def attempt(self, claim: Claim, count: int, chance: random.Random) -> None:
        await self.run(claim, [started(1)], [1])
        events = [an_event(number, chance) for number in range(2, count + 2)]
        stored = 1
        while stored <= count:
            group = events[stored - 1 : stored - 1 + chance.choice([1, 2, 7, 40])]
            stored = await self.owner.events.append(claim, stored, group, None)
        error = Change(State.FAILED, "it broke", error=b"")
        await self.owner.claims.finish(claim, error)

    async def count(self, table: str) -> int:
        async with transaction(self.pool) as connection:
            row = await (await connection.execute(f"SELECT count(*) AS n FROM task_manager.{table}".encode())).fetchone()
        return row["n"] if row else 0

    async def events(self, task_id: uuid.UUID, after: int = 0) -> list[Event]:
        """All behind a cursor, page by page."""
        found: list[Event] = []
        while page := await self.log.page(task_id, after):
            assert [event.sequence for event in page] == list(range(after + 1, after + 1 + len(page)))
            found, after = found + page, page[-1].sequence
        return found

    async def stream(self, task_id: uuid.UUID, after: int = 0) -> list[api.WatchTaskResponse]:
        watch = Watch(self.log, Hub(), asyncio.Event(), heartbeat_interval=60, poll_interval=60, now=utc_now)
        return [watch_response(item) async for item in watch.follow(task_id, after, lambda _: True)]


def an_event(number: int, chance: random.Random) -> Event:
    if chance.random() < 0.5:
        metrics = task_event_pb2.StepMetrics(step=number, values={"loss": chance.random(), "epoch": number / 100})
        return Event(sequence=number, step_metrics=metrics)
    severity = chance.choice([task_event_pb2.LogEntry.INFO, task_event_pb2.LogEntry.ERROR])
    entry = task_event_pb2.LogEntry(severity=severity, text=f"line {number} " + "x" * chance.randrange(200))
    return Event(sequence=number, log_entry=entry)


@pytest.fixture
def world(pool: Pool) -> World:
    return World(pool)


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """About a frame or a few each."""
    monkeypatch.setattr(compaction, "MAX_BYTES", 4000)


REQUESTS = (
    api.ListEventsRequest(page_size=7),
    api.ListEventsRequest(page_size=3, kinds=[Event.LOG_ENTRY], logs=api.LogFilter(min_severity=task_event_pb2.LogEntry.ERROR)),
    api.ListEventsRequest(page_size=1000, kinds=[Event.STATE_CHANGE]),
)


async def everything_read(world: World, task_id: uuid.UUID) -> list[Any]:
    """What readers of every kind get, from many cursors."""
    task, history, answers = await world.owner.tasks.get(task_id), History(world.log), list[Any]()
    whole = await world.events(task_id)
    for after in sorted({0, 1, len(whole), *random.Random(1).sample(range(len(whole)), 8)}):
        answers.append(await world.events(task_id, after))
        answers.append([event for message in await world.stream(task_id, after) for event in message.events])
        for request in REQUESTS:
            request.after_sequence = after
            answers.append(await history.events(task, request))
    return [*answers, await history.metrics(task, api.ListMetricsRequest(max_points=50))]


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_compacted_events_are_read_as_the_others_are(world: World, seed: int) -> None:
    task_id = await world.ended(300, seed=seed)
    before = await everything_read(world, task_id)

    await world.compaction().round()

    assert (await world.count("event_frame"), await world.count("task_compaction")) == (0, 0)
    assert await world.count("event_segment") > 3
    assert await everything_read(world, task_id) == before
    model = StreamModel()
    for after in (0, 17, len(before[0])):
        messages = await world.stream(task_id, after)
        check_stream(messages, after=after)
        model.connection(messages, after=after)
    model.check()


async def test_a_small_task_becomes_one_segment_and_others_stay(world: World) -> None:
    task_id = await world.ended(20)
    running = (await world.owner.claimed()).claim
    await world.run(running, [started(1)], [1])

    await world.compaction().round()

    assert len(world.archive.segments) == await world.count("event_segment") == 1
    assert len(await world.events(running.task_id)) == await world.count("event_frame")
    assert len(await world.events(task_id)) > 20


async def test_tasks_rest_before_they_are_compacted(world: World) -> None:
    await world.ended(3)

    await world.compaction(datetime.timedelta(hours=1)).round()

    assert (world.archive.segments, await world.count("event_segment")) == ({}, 0)


@pytest.mark.usefixtures("small_segments")
async def test_a_task_that_is_tried_again_goes_on_behind_its_segments(world: World) -> None:
    task_id = await world.ended(60)
    first = await world.events(task_id)
    await world.compaction().round()

    wanted = Retry(task_id=task_id, request_id=None, request_digest=b"d", from_start=True, changes=b"")
    await RetryRepository(world.pool, Hub()).retry(wanted)
    claimed = await world.owner.claim("t:1", 1)
    assert claimed
    await world.compaction().round()
    await world.attempt(claimed.claim, 40, random.Random(5))
    both = await everything_read(world, task_id)
    assert both[0][: len(first)] == first
    await world.compaction().round()

    assert await world.count("event_frame") == 0
    assert await everything_read(world, task_id) == both


class Mortal:
    """Counts the steps of a compaction and kills it before or after one of them."""

    def __init__(self, fatal: int) -> None:
        self.left = fatal

    def step(self, call: Callable[..., Any]) -> Callable[..., Any]:
        async def guarded(*arguments: Any) -> Any:
            self._pass()
            answer = await call(*arguments)
            self._pass()
            return answer

        return guarded

    def _pass(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


def mortal(world: World, fatal: int) -> tuple[Compaction, Mortal]:
    one, fate = world.compaction(), Mortal(fatal)
    for name in ("_read", "_write"):
        setattr(one, name, fate.step(getattr(one, name)))
    archive = MemoryArchive()
    archive.segments = world.archive.segments
    archive.put_segment = fate.step(archive.put_segment)  # type: ignore[method-assign]
    one._archive = archive
    return one, fate


@pytest.mark.usefixtures("small_segments")
async def test_a_kill_at_any_point_loses_nothing_and_the_next_round_ends_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_ROWS_AT_ONCE", 3)
    fatal, survived = 0, False
    while not survived:
        fatal += 1
        task_id = await world.ended(6, seed=fatal)
        before = await world.events(task_id)
        one, _ = mortal(world, fatal)
        try:
            await one.round()
            survived = True
        except Killed:
            assert await world.events(task_id) == before, f"killed at step {fatal}"
        await world.compaction().round()
        assert await world.events(task_id) == before, f"killed at step {fatal}"
        assert (await world.count("event_frame"), await world.count("task_compaction")) == (0, 0)
    assert fatal > 12


async def test_two_at_once_do_the_same(world: World) -> None:
    tasks = [await world.ended(30, seed=seed) for seed in range(5)]
    before = [await world.events(task) for task in tasks]

    await asyncio.gather(world.compaction().round(), world.compaction().round())

    assert [await world.events(task) for task in tasks] == before
    assert await world.count("event_frame") == 0


async def test_a_reader_that_is_overtaken_by_compaction_reads_on(world: World) -> None:
    task_id = await world.ended(200)
    whole = await world.events(task_id)

    async def read() -> list[Event]:
        return [event for message in await world.stream(task_id) for event in message.events]

    answers = await asyncio.gather(*(read() for _ in range(5)), world.compaction().round(), *(read() for _ in range(5)))

    assert all(answer == whole for answer in answers if answer is not None)


async def test_storage_away_is_said_and_stops_nothing_for_good(world: World) -> None:
    task_id = await world.ended(10)
    world.archive.away = True
    with pytest.raises(Unavailable) as caught:
        await world.compaction().round()
    assert caught.value.reason == "STORAGE_UNAVAILABLE"
    assert len(await world.events(task_id)) > 10

    world.archive.away = False
    await world.compaction().round()
    world.archive.away = True
    with pytest.raises(Unavailable) as caught:
        await world.stream(task_id)
    assert caught.value.reason == "STORAGE_UNAVAILABLE"


async def test_damaged_bytes_are_never_told(world: World) -> None:
    task_id = await world.ended(10)
    await world.compaction().round()
    world.archive.segments = {name: content[:-1] for name, content in world.archive.segments.items()}

    with pytest.raises(ServiceError) as caught:
        await world.events(task_id)

    assert caught.value.reason == "CHECKSUM_MISMATCH"


async def test_one_that_cannot_be_compacted_keeps_no_other_waiting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = await world.ended(3, seed=1), await world.ended(3, seed=2)
    put = world.archive.put_segment

    async def refuse(task_id: uuid.UUID, sha256: str, content: bytes) -> None:
        if task_id == bad:
            raise ServiceError("UPLOAD_EXPIRED", "too late")
        await put(task_id, sha256, content)

    monkeypatch.setattr(world.archive, "put_segment", refuse)
    compacting = world.compaction(datetime.timedelta(seconds=1))
    async with transaction(world.pool) as connection:
        await connection.execute("UPDATE task_manager.task_compaction SET end_time = now() - interval '1 minute'")
    await compacting.round()

    assert {task_id for task_id, _ in world.archive.segments} == {good}
    assert await world.count("task_compaction") == 1


async def test_the_events_of_a_deleted_task_go_with_it(world: World) -> None:
    task_id, other = await world.ended(10), await world.ended(10, seed=2)
    await world.compaction().round()

    await world.owner.tasks.delete(task_id)
    world.archive.away = True
    with pytest.raises(Unavailable):
        await world.compaction().round()
    world.archive.away = False
    await world.compaction().round()

    assert {task for task, _ in world.archive.segments} == {other}
    assert (await world.count("event_segment"), await world.count("forgotten_task")) == (1, 0)
