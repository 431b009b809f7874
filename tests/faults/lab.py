"""Parts of two task managers inside one process, on one real database, so that a test decides what happens in which order."""

import asyncio
import contextlib
import dataclasses
import datetime
import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from stream_model import StreamModel

from services.common.errors import ServiceError
from services.common.postgres import Pool
from services.task_manager.claims import ClaimRepository
from services.task_manager.domain.claim import Assignment, Claim
from services.task_manager.domain.placement import Machine
from services.task_manager.domain.task import Change, NewTask, State
from services.task_manager.event_log import EventLog
from services.task_manager.hub import Hub
from services.task_manager.orphans import OrphanSweep
from services.task_manager.repository import TaskRepository
from services.task_manager.run_follower import RunFollower
from services.task_manager.servicer import utc_now
from services.task_manager.stream_messages import watch_response
from services.task_manager.task_queue import TaskQueue
from services.task_manager.trainer_port import LiveRun, RunEnd, RunEvents, RunMessage
from services.task_manager.watch import Watch
from tests.faults.evidence import Evidence, RunEvidence, gather
from tests.faults.fake_run import artifact_of
from tests.faults.verdict import Told, judge
from tests.integration.task_manager.manager_harness import make_settings
from tunesmith.v1 import task_event_pb2

RUNNER = "trainer:1"

LOST = Change(State.QUEUED, "lost")
FAILED = Change(State.FAILED, "failed", error=b"")
_PATIENCE_SECONDS = 2.0


async def no_checkpoints(artifact: str) -> list[str]:
    """For runs whose tasks ask for no evaluation."""
    return []


class Owner:
    """What a task manager process has to write with. A lease of -1 s has always run out."""

    def __init__(self, pool: Pool, lease: float) -> None:
        span, self.id, self.hub = datetime.timedelta(seconds=lease), uuid.uuid4(), Hub()
        self.tasks = TaskRepository(pool, self.hub)
        self.queue = TaskQueue(pool, self.hub, owner=self.id, lease=span)
        self.claims = ClaimRepository(pool, self.hub, owner=self.id, lease=span)
        self.events = EventLog(pool, self.hub)

    async def lose(self, claim: Claim) -> None:
        """The run is lost, another attempt follows at once."""
        rest = datetime.timedelta()
        await self.claims.lose_run(claim, max_lost_runs=9, failure=FAILED, retry=LOST, first_rest=rest)


class Trainer:
    """Runs that do what a test says; the part of `trainer_port` that followers and sweeps use."""

    def __init__(self) -> None:
        self.messages: dict[str, list[RunMessage]] = {}
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.live: Sequence[LiveRun] = ()
        self.is_away = False

    async def start_run(self, assignment: Assignment) -> None:
        """Takes everything."""
        self.started.append(assignment.run_name)

    async def cancel_run(self, name: str) -> None:
        """Remembers it."""
        self.cancelled.append(name)

    async def live_runs(self) -> Sequence[LiveRun]:
        """What the test says."""
        return self.live

    async def follow_run(self, name: str, after: int) -> AsyncGenerator[RunMessage, None]:
        """What the test says; then the stream closes."""
        if self.is_away:
            raise ServiceError("TRAINER_UNAVAILABLE", "away")
        for message in self.messages.get(name, ()):
            yield message


@dataclasses.dataclass
class Lab:
    """`first` and `second` are two owners; the lease of `first` has run out as soon as it has one."""

    pool: Pool

    def __post_init__(self) -> None:
        self.first, self.second = Owner(self.pool, lease=-1), Owner(self.pool, lease=60)
        self.trainer, self.told = Trainer(), Told()
        self.runs: dict[str, list[RunEvidence]] = {}
        self.found: list[str] = []
        self.mine: set[str] = set()

    async def task(self, owner: Owner | None = None, request: uuid.UUID | None = None) -> str:
        """A new one; its id."""
        owner, new = owner or self.first, a_new_task(request)
        task = await owner.tasks.create(new)
        self.told.created[str(new.request_id)] = str(task.id)
        self.mine |= {str(task.id), str(new.id)}
        return str(task.id)

    async def claimed(self, owner: Owner | None = None) -> Assignment:
        """A new task, claimed by `first` unless it is said otherwise."""
        owner = owner or self.first
        return await self.claim(owner, await self.task(owner))

    async def claim(self, owner: Owner, task: str) -> Assignment:
        """A waiting task."""
        [assignment] = await owner.queue.claim([uuid.UUID(task)], Machine(RUNNER, 1_000_000, 1_000_000))
        return assignment

    def run(self, assignment: Assignment, lines: int, end: str = "") -> list[task_event_pb2.TaskEvent]:
        """What the attempt's run has written; its events."""
        events = [a_line(assignment.run_name, assignment.attempt, number) for number in range(1, lines + 1)]
        self.runs[assignment.run_name] = [RunEvidence(events, end)]
        return events

    async def is_refused(self, write: Any) -> None:
        """Notes when a write that must be refused is not."""
        try:
            await write
        except ServiceError as error:
            assert error.reason == "STALE_EPOCH", error  # noqa: PT017 - anything else is a mistake of the test
        else:
            self.found.append("stale_write")

    def follower(self, owner: Owner, assignment: Assignment) -> RunFollower:
        """Of a run of `trainer`."""
        settings = make_settings("postgresql://u@h/d", "storage:1", (RUNNER,))
        return RunFollower(
            assignment,
            is_new=True,
            trainer=self.trainer,  # type: ignore[arg-type]
            claims=owner.claims,
            events=owner.events,
            hub=owner.hub,
            settings=settings,
            checkpoints_before=no_checkpoints,
        )

    async def follow(self, owner: Owner, assignment: Assignment, rounds: int = 3) -> None:
        """So many rounds, or until the attempt is over."""
        follower = self.follower(owner, assignment)
        for _ in range(rounds):
            if await follower._round():
                return

    async def state_of(self, assignment: Assignment) -> State:
        """Of its task, as stored."""
        return (await self.second.tasks.get(assignment.claim.task_id)).state

    async def sweep(self, owner: Owner) -> None:
        """One look for orphans."""
        await OrphanSweep(owner.claims).sweep({RUNNER: self.trainer})  # type: ignore[dict-item]

    async def read(self, owner: Owner, task: str, model: StreamModel, *, after: int = 0, during: Any = None) -> None:
        """A stream until its end, or until nothing came for long; `during` happens when everything before it was read."""
        watch = Watch(owner.events, owner.hub, asyncio.Event(), heartbeat_interval=0.05, poll_interval=0.02, now=utc_now)
        messages, complete = [], False
        with contextlib.suppress(TimeoutError, ServiceError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                async for item in watch.follow(uuid.UUID(task), after, lambda _: True):
                    messages.append(watch_response(item))
                    if during is not None and messages[-1].HasField("heartbeat"):
                        happens, during = during, None
                        await happens()
                complete = True
        model.connection(messages, after=after, complete=True)
        if not complete:
            self.found.append("stuck")

    async def verdict(self) -> set[str]:
        """The names of all checks that have found something."""
        everything = await gather(self.pool, [])
        tasks = [task for task in everything.tasks if task.id in self.mine]
        return {*self.found, *(finding.check for finding in judge(Evidence(tasks, self.runs), self.told))}


def a_new_task(request: uuid.UUID | None = None) -> NewTask:
    """Of one process."""
    plain = {"display_name": "n", "description": "", "labels": {}, "spec": b"", "effective_hyperparameters": b""}
    more = {"processes": 1, "datasets": (), "base_model": "baseModels/tiny", "method": "SFT", "tuning": "LORA"}
    values: dict[str, Any] = {**plain, **more, "request_digest": b"d", "note": ""}
    return NewTask(id=uuid.uuid4(), request_id=request or uuid.uuid4(), **values)


def a_line(run: str, attempt: int, number: int) -> task_event_pb2.TaskEvent:
    """An event of a run."""
    entry = task_event_pb2.LogEntry(severity=task_event_pb2.LogEntry.INFO, source="stdout", text=f"{run} says {number}")
    return task_event_pb2.TaskEvent(sequence=number, attempt=attempt, log_entry=entry)


def success(assignment: Assignment) -> Change:
    """What the end of a run that went well becomes."""
    return Change(State.SUCCEEDED, "done", artifact=artifact_of(assignment.run_name))


def end_of(assignment: Assignment, head: int) -> RunEnd:
    """A run that went well tells it."""
    return RunEnd(head, State.SUCCEEDED, None, artifact_of(assignment.run_name))


def some(events: Sequence[task_event_pb2.TaskEvent]) -> RunEvents:
    """A message of a run's stream."""
    return RunEvents(events)
