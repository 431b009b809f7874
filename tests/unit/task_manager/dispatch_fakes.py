"""A trainer and a store in memory for the dispatcher and the follower; the store keeps the rules of the real one."""

import asyncio
import dataclasses
import datetime
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from services.common.config import Secret
from services.common.errors import NotFound, ServiceError, Unavailable
from services.task_manager.domain import transitions
from services.task_manager.domain.attempt import after_loss, moves
from services.task_manager.domain.claim import Assignment, Claim, SequenceGap, StaleClaim
from services.task_manager.domain.progress import Progress
from services.task_manager.domain.task import Change, State
from services.task_manager.domain.throughput import RunSpeed
from services.task_manager.settings import TaskManagerSettings
from services.task_manager.trainer_port import Capacity, LiveRun, RunEnd, RunEvents, RunMessage
from tunesmith.v1 import task_event_pb2

OWNER = uuid.UUID(int=1)
TASK = uuid.UUID(int=2)
RUN = f"runs/{TASK}-1"
END = RunEnd(0, State.SUCCEEDED, None, "artifacts/a")


async def checkpoints_before(artifact: str) -> Sequence[str]:
    """Two, whatever the result."""
    return [f"{artifact}-early", f"{artifact}-late"]


def settings(**changes: Any) -> TaskManagerSettings:
    """No waiting."""
    spans = {
        name: datetime.timedelta(seconds=0.001)
        for name in ("dispatch_interval", "retry_interval", "flush_interval", "orphan_interval")
    }
    required = {"listen": "127.0.0.1:0", "postgres_dsn": Secret(""), "storage_address": "s:1", "trainer_addresses": ("t:1",)}
    return TaskManagerSettings(**required | spans | changes)


def assignment(**changes: Any) -> Assignment:
    """A task in state STARTING that was just claimed."""
    plain = Assignment(
        claim=Claim(TASK, 1, OWNER),
        state=State.STARTING,
        state_reason="",
        attempt=1,
        runner="t:1",
        run_name=RUN,
        run_sequence=0,
        processes=1,
        spec=b"",
        effective_hyperparameters=b"",
        progress=None,
    )
    return dataclasses.replace(plain, **changes)


def started(sequence: int) -> task_event_pb2.TaskEvent:
    return task_event_pb2.TaskEvent(sequence=sequence, training_started=task_event_pb2.TrainingStarted(total_steps=10))


def step(sequence: int, number: int) -> task_event_pb2.TaskEvent:
    metrics = task_event_pb2.StepMetrics(step=number, values={"loss": 1.0})
    return task_event_pb2.TaskEvent(sequence=sequence, step_metrics=metrics)


class FakeStore:
    """Claims and events of one task: what ClaimRepository and EventLog do, in memory."""

    def __init__(self, stored: Assignment) -> None:
        self.task = stored
        self.owned = True
        self.events: list[task_event_pb2.TaskEvent] = []
        self.changes: list[Change] = []
        self.explanations: list[str] = []
        self.progress: Progress | None = None
        self.failures: list[Exception] = []
        self.lost = 0
        self.max_lost_runs = 0
        self.speed: RunSpeed | None = None
        self.checkpoints: list[str] = []
        self.silent_for = datetime.timedelta()

    async def refresh(self, claim: Claim) -> Assignment:
        self._check(claim)
        return self.task

    async def explain(self, claim: Claim, reason: str) -> None:
        self._check(claim)
        self.explanations.append(reason)

    async def finish(self, claim: Claim, change: Change, speed: RunSpeed | None = None, checkpoints: Sequence[str] = ()) -> None:
        self._check(claim)
        self.speed, self.checkpoints = speed, list(checkpoints)
        for step in moves(self.task.state, change):
            self._move(step)
        self.owned = False

    async def lose_run(
        self, claim: Claim, *, max_lost_runs: int, failure: Change, retry: Change, first_rest: datetime.timedelta
    ) -> None:
        self._check(claim)
        self.max_lost_runs = max_lost_runs
        loss = after_loss(self.task.state, self.lost, max_lost_runs, failure, retry)
        self.lost = loss.lost_runs
        await self.finish(claim, loss.change)

    async def append(
        self, claim: Claim, after: int, events: Sequence[task_event_pb2.TaskEvent], progress: Progress | None
    ) -> int:
        self._check(claim)
        stored = self.task.run_sequence
        if stored > after:
            return stored
        if stored < after or [event.sequence for event in events] != list(range(after + 1, after + 1 + len(events))):
            raise SequenceGap(stored + 1, events[0].sequence)
        if self.task.state is State.STARTING and any(event.HasField("training_started") for event in events):
            self._move(Change(State.RUNNING, "started"))
        self.events += events
        self.progress = progress
        self.task = dataclasses.replace(self.task, run_sequence=after + len(events))
        return self.task.run_sequence

    async def silence(self, runner: str) -> datetime.timedelta:
        assert runner == self.task.runner
        return self.silent_for

    def cancel(self) -> None:
        """What a caller of the API does."""
        self._move(Change(State.CANCELLING, "wish"))

    def _check(self, claim: Claim) -> None:
        if self.failures:
            raise self.failures.pop(0)
        if not self.owned or claim != self.task.claim:
            raise StaleClaim(claim)

    def _move(self, change: Change) -> None:
        transitions.check(self.task.state, change.to)
        self.changes.append(change)
        self.task = dataclasses.replace(self.task, state=change.to)


Script = Sequence[RunMessage | Exception]


class FakeTrainer:
    """Streams what the test wrote: each call of follow_run plays the next script; then the trainer is silent for ever."""

    def __init__(self, *scripts: Script, starts: Sequence[Exception | None] = ()) -> None:
        self.scripts = list(scripts)
        self.starts = list(starts)
        self.started: list[str] = []
        self.followed: list[int] = []
        self.cancelled: list[str] = []
        self.paused: list[str] = []
        self.runs: list[LiveRun] = []
        self.has: Capacity | Exception = Capacity(1, 1)
        self.on_start: Callable[[], None] = lambda: None
        self.asked = 0
        self.answers = asyncio.Event()
        """Questions about its capacity are swallowed while it is not set."""
        self.answers.set()

    async def capacity(self) -> Capacity:
        self.asked += 1
        await self.answers.wait()
        if isinstance(self.has, Exception):
            raise self.has
        return self.has

    async def start_run(self, assignment: Assignment) -> None:
        self.on_start()
        outcome = self.starts.pop(0) if self.starts else None
        if outcome:
            raise outcome
        self.started.append(assignment.run_name)

    async def cancel_run(self, name: str) -> None:
        self.cancelled.append(name)

    async def pause_run(self, name: str) -> None:
        self.paused.append(name)

    async def live_runs(self) -> Sequence[LiveRun]:
        if isinstance(self.has, Exception):
            raise self.has
        return self.runs

    async def follow_run(self, name: str, after: int) -> AsyncGenerator[RunMessage, None]:
        self.followed.append(after)
        for message in self.scripts.pop(0) if self.scripts else ():
            if isinstance(message, Exception):
                raise message
            yield message
            await asyncio.sleep(0)
        if not self.scripts:
            await asyncio.Event().wait()


def away() -> ServiceError:
    return Unavailable("TRAINER_UNAVAILABLE", "the trainer t:1 did not answer: refused")


def absent() -> ServiceError:
    return NotFound("RUN_NOT_FOUND", RUN)


def batch(*events: task_event_pb2.TaskEvent) -> RunEvents:
    return RunEvents(events)


def end(head: int, state: State | None = State.SUCCEEDED, error: bytes | None = None, artifact: str = "artifacts/a") -> RunEnd:
    return RunEnd(head, state, error, artifact if state is State.SUCCEEDED else "")
