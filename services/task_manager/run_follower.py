"""Follows one attempt of one task: starts the run, stores its events, records its end; one per owned task, run by the dispatcher.

Level-triggered: every round reads the task anew and does what it needs next, so that a broken stream, a database that was away
and an adoption after a crash are all the same case. A trainer that does not answer may still be training: it is asked again for
as long as it takes. A loss is only a trainer that answers twice that it does not have the run, or a strict one that was silent
for longer than it lets its runs go on (`fenced_after`).
"""

import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog

from services.common.errors import ServiceError, Unavailable
from services.task_manager import follow_ups
from services.task_manager.cancellation import check_cancelled
from services.task_manager.domain.attempt import Failing, Step, has_fenced_itself, next_step
from services.task_manager.domain.claim import Assignment, SequenceGap, StaleClaim
from services.task_manager.domain.kind import Kind
from services.task_manager.domain.task import Change, State
from services.task_manager.domain.throughput import RunSpeed
from services.task_manager.event_batches import gathered, in_order, split_at_start
from services.task_manager.follower_store import Claims, Events
from services.task_manager.hub import Hub, wait_for
from services.task_manager.run_end import change_of_end, interruption, lost_run_changes, refusal_change
from services.task_manager.run_measures import RunMeasures
from services.task_manager.settings import TaskManagerSettings
from services.task_manager.spec_conversion import run_kind
from services.task_manager.trainer_port import RunEnd, RunEvents, RunMessage, Trainer
from tunesmith.v1 import task_event_pb2

log = structlog.get_logger()

CheckpointsBefore = Callable[[str], Awaitable[Sequence[str]]]
"""Names of the kept checkpoints that led to a result, oldest step first; raises Unavailable."""

_LOST = ("RUN_NOT_FOUND", "CURSOR_AHEAD")
_NO_ROOM = ("NO_CAPACITY", "STALE_EPOCH")
_FINAL_REFUSALS = ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND")


class RunFollower:
    """`is_new`: claimed by this process a moment ago, so that nobody can have started its run yet."""

    def __init__(
        self,
        assignment: Assignment,
        *,
        is_new: bool,
        trainer: Trainer,
        claims: Claims,
        events: Events,
        hub: Hub,
        settings: TaskManagerSettings,
        checkpoints_before: CheckpointsBefore,
    ) -> None:
        self.assignment = assignment
        self.is_accepted = assignment.state is not State.STARTING or assignment.run_sequence > 0
        self._may_have_started = not is_new
        self._trainer = trainer
        self._claims = claims
        self._events = events
        self._hub = hub
        self._settings = settings
        self._checkpoints_before = checkpoints_before
        self._refused_since: float | None = None
        self._not_found = 0
        self._failing = Failing()
        self._explained = False
        self._measures = RunMeasures(assignment.progress)
        self._stored = assignment.run_sequence

    async def run(self) -> None:
        """Until the attempt is over or somebody else owns the task."""
        claim = self.assignment.claim
        structlog.contextvars.bind_contextvars(task_id=str(claim.task_id), run=self.assignment.run_name)
        with self._hub.subscribed(claim.task_id) as hint:
            while True:
                check_cancelled()
                hint.clear()
                if await self._round():
                    return
                await wait_for(hint, self._settings.retry_interval.total_seconds())

    async def _round(self) -> bool:
        """Whether there is nothing left to do."""
        try:
            return await self._advance()
        except StaleClaim:
            log.info("claim.lost")
            return True
        except ServiceError as error:
            log.warning("run.interrupted", reason=error.reason, message=error.message)
        except Exception:
            log.exception("run.follower_crashed")
        return False

    async def _advance(self) -> bool:
        self.assignment = await self._claims.refresh(self.assignment.claim)
        self._stored = self.assignment.run_sequence
        match next_step(
            self.assignment.state, self._stored, may_have_started=self._may_have_started, is_accepted=self.is_accepted
        ):
            case Step.CANCEL:
                await self._finish(Change(State.CANCELLED, "cancelled before a run was started"))
                return True
            case Step.PAUSE:
                await self._finish(Change(State.PAUSED, "paused before a run was started"))
                return True
            case Step.START:
                return await self._start() or await self._follow()
        return await self._follow()

    async def _start(self) -> bool:
        """Whether the trainer's answer ends the attempt."""
        before, self._may_have_started = self._may_have_started, True
        try:
            await self._trainer.start_run(self.assignment)
        except ServiceError as error:
            if error.reason not in _NO_ROOM and error.status not in _FINAL_REFUSALS:
                return await self._silent(error)
            self._may_have_started = before and error.reason not in _NO_ROOM
            return await self._refused(error)
        self.is_accepted = True
        self._failing = Failing()
        log.info("run.started", runner=self.assignment.runner, attempt=self.assignment.attempt)
        return False

    async def _refused(self, error: ServiceError) -> bool:
        if error.reason not in _NO_ROOM:
            await self._finish(refusal_change(error))
            return True
        now = time.monotonic()
        self._refused_since = self._refused_since or now
        if now - self._refused_since >= self._settings.start_timeout.total_seconds():
            await self._finish(Change(State.QUEUED, f"the trainer has no room: {error.message}"))
            return True
        await self._explain(f"waits for room on the trainer: {error.message}")
        raise error

    async def _follow(self) -> bool:
        try:
            return await self._consume()
        except Unavailable as error:
            if error.reason != "TRAINER_UNAVAILABLE":
                raise
            return await self._silent(error)
        except ServiceError as error:
            if error.reason not in _LOST:
                raise
            return await self._lost(error)

    async def _consume(self) -> bool:
        seconds = self._settings.flush_interval.total_seconds()
        async with (
            contextlib.aclosing(self._trainer.follow_run(self.assignment.run_name, self._stored)) as messages,
            contextlib.aclosing(gathered(messages, seconds)) as groups,
        ):
            async for group in groups:
                await self._is_alive()
                if await self._store(group):
                    return True
                check_cancelled()
        raise Unavailable("TRAINER_UNAVAILABLE", f"the trainer {self.assignment.runner} closed the stream before the run's end")

    async def _store(self, group: list[RunMessage]) -> bool:
        """Whether the run's end was among the messages and is recorded."""
        given = [event for message in group if isinstance(message, RunEvents) for event in message.events]
        for events in split_at_start(in_order(given, self._stored)):
            await self._append(events)
        if given and given[-1].sequence > self._stored:
            raise SequenceGap(self._stored + 1, given[-1].sequence)
        for message in group:
            if isinstance(message, RunEnd):
                if message.head_sequence > self._stored:
                    raise SequenceGap(self._stored + 1, message.head_sequence)
                await self._end(message)
                return True
        return False

    async def _end(self, end: RunEnd) -> None:
        if cause := interruption(end):
            await self._lose(cause, end.error)
        else:
            change = change_of_end(end, self.assignment)
            await self._finish(change, self._speed(), await self._asked_too(change))

    async def _asked_too(self, change: Change) -> Sequence[str]:
        """The checkpoints that the evaluation is to ask which follows on the task; while storage is away the end waits for it."""
        if change.to is not State.SUCCEEDED or not follow_ups.asks_checkpoints(self.assignment.spec):
            return ()
        return await self._checkpoints_before(change.artifact)

    def _speed(self) -> RunSpeed | None:
        measured = self._measures.tokens_per_second
        if measured is None or self.assignment.kind is not Kind.FINE_TUNING:
            return None
        return RunSpeed(run_kind(self.assignment.spec, self.assignment.effective_hyperparameters), measured)

    async def _append(self, events: list[task_event_pb2.TaskEvent]) -> None:
        self._measures.observe(events)
        self._stored = await self._events.append(self.assignment.claim, self._stored, events, self._measures.progress)

    async def _lost(self, error: ServiceError) -> bool:
        self._not_found += 1
        if self._not_found < 2:
            raise error
        if error.reason == "CURSOR_AHEAD":
            # A run of that name exists, but not the one whose events are stored; it must not go on beside the next attempt.
            with contextlib.suppress(ServiceError):
                await self._trainer.cancel_run(self.assignment.run_name)
        await self._lose(f"{self.assignment.runner} does not have {self.assignment.run_name} any more")
        return True

    async def _lose(self, cause: str, error: bytes | None = None) -> None:
        most = self.assignment.max_attempts or self._settings.max_lost_runs
        failure, retry = lost_run_changes(cause, most, error)
        rest = self._settings.retry_backoff
        await self._claims.lose_run(self.assignment.claim, max_lost_runs=most, failure=failure, retry=retry, first_rest=rest)
        log.warning("run.lost", attempt=self.assignment.attempt, cause=cause)

    async def _silent(self, error: ServiceError) -> bool:
        """Whether the attempt is over, as the trainer has ended the run by its own rule; raises `error` while it may go on."""
        runner, after = self.assignment.runner, self.assignment.fenced_after
        if error.reason == "TRAINER_UNAVAILABLE" and after is not None:
            failing = self._failing.failed(time.monotonic())
            silence = min(failing, await self._claims.silence(runner))
            if has_fenced_itself(after, silence, self._settings.orphan_interval):
                await self._lose(f"{runner} has been silent for {silence.total_seconds():.0f} s and has ended the run by itself")
                return True
        await self._explain(self._waiting(error))
        raise error

    async def _is_alive(self) -> None:
        self._not_found = 0
        self._failing = Failing()
        if self._explained:
            await self._claims.explain(self.assignment.claim, "the trainer answers again")
            self._explained = False

    async def _explain(self, reason: str) -> None:
        self._explained = True
        await self._claims.explain(self.assignment.claim, reason)

    def _waiting(self, error: ServiceError) -> str:
        if error.reason == "TRAINER_UNAVAILABLE":
            return f"waits for a trainer: {self.assignment.runner} does not answer"
        return f"waits for a trainer: {error.message}"

    async def _finish(self, change: Change, speed: RunSpeed | None = None, checkpoints: Sequence[str] = ()) -> None:
        await self._claims.finish(self.assignment.claim, change, speed, checkpoints)
        log.info("run.ended", state=change.to.value, reason=change.reason)
