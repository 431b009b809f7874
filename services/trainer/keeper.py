"""Takes one run from wherever its directory says it is to its end; the registry starts one for every run that is not terminal.

Every turn looks at the directory first, so it does not matter which process did the turn before, or how that process died.
"""

import asyncio
import contextlib
import dataclasses
import signal
import subprocess
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import structlog

from services.common.errors import ServiceError
from services.common.failpoints import around
from services.trainer import cgroup, processes
from services.trainer.checkpoint_delivery import CheckpointDelivery
from services.trainer.delivery import Delivered, Delivery
from services.trainer.exit_failure import failure_of
from services.trainer.history import Exit, History
from services.trainer.inheritance import clear_cut_short, inherit, inherit_answers
from services.trainer.journal import Event, Journal, JournalBusy, is_busy
from services.trainer.kinds.table import KINDS
from services.trainer.launcher import Launcher
from services.trainer.persistence import Note, disk_trouble_named, is_not_transient, persist
from services.trainer.preparation import Preparation
from services.trainer.restoring import Restoring
from services.trainer.run import Failure, State, Wish
from services.trainer.run_directory import RunDirectory

log = structlog.get_logger()

T = TypeVar("T")

_POLL_SECONDS = 0.1
_WATCH_SECONDS = 0.25
_ERROR_PAUSE_SECONDS = 1.0
_KILL_MARGIN_SECONDS = 5.0
_BURIAL_SECONDS = 10.0
_REAP_SECONDS = 10.0
_LEAVING_SECONDS = 5.0
_LAST_UPLOAD_SECONDS = 60.0
_HASTY_UPLOAD_SECONDS = 5.0


class _Wished(Exception):
    """A wish came while something else was under way."""


@dataclasses.dataclass(frozen=True, slots=True)
class Means:
    """What every keeper works with."""

    preparation: Preparation
    delivery: Delivery
    launcher: Launcher
    checkpoints: CheckpointDelivery
    restoring: Restoring
    clock: Callable[[], float] = time.monotonic


class Keeper:
    """One run's. `predecessors` gives the older runs of the task, newest first."""

    def __init__(self, run: RunDirectory, means: Means, predecessors: Callable[[], Sequence[RunDirectory]]) -> None:
        self.run = run
        self._means = means
        self._predecessors = predecessors
        self._wished = asyncio.Event()
        self._supervisor: subprocess.Popen[bytes] | None = None
        if run.wish() is not None:
            self._wished.set()

    def wish(self, wish: Wish) -> None:
        """Records a wish and acts on it at once."""
        self.run.record_wish(wish)
        self._wished.set()

    async def keep(self) -> None:
        """Until the run is terminal."""
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(run=str(self.run.request.name))
        while not await self._try_turn():
            pass
        await self._reap()

    async def _try_turn(self) -> bool:
        """One turn; returns whether the run is terminal. Trouble with one run must not reach the others."""
        try:
            if self.run.is_active():
                await self._turn()
            return not self.run.is_active()
        except JournalBusy:
            await self._watch()
        except _Wished:
            pass
        except Exception:
            log.exception("run.stuck")
            await asyncio.sleep(_ERROR_PAUSE_SECONDS)
        return False

    async def _turn(self) -> None:
        await self._predecessors_gone()
        with Journal.open(self.run.journal) as journal:
            ready = await self._act(journal)
        # The supervisor becomes the journal's writer, so it starts when this one has let go.
        if ready:
            await self._launch()

    async def _act(self, journal: Journal) -> bool:
        """Does what is next; returns whether the supervisor is."""
        history, wish = self.run.history(), self.run.wish()
        if history.end is not None:
            return False
        await self._supervisor_gone(history)
        if history.started and history.exit is None:
            await self._bury(journal, history)
            return False
        if history.exit is not None and not history.artifact:
            await self._means.checkpoints.finish(self.run, journal, _last_upload_seconds(wish))
        if wish is not None and not history.artifact:
            if wish.stop is None:
                await self._leave(journal, history)
            self._end_as_wished(journal, history, wish)
        elif history.exit is not None:
            await self._finish(journal, history, history.exit)
        else:
            return await self._prepare(journal)
        return False

    async def _predecessors_gone(self) -> None:
        while any(run.is_active() for run in self._predecessors()) and not self._wished.is_set():  # noqa: ASYNC110 - others end
            await asyncio.sleep(_POLL_SECONDS)

    async def _prepare(self, journal: Journal) -> bool:
        note = _notes(journal)
        try:
            await self._unless_wished(self._means.preparation.prepare(self.run, note))
            await self._inherit(note)
            await self._unless_wished(self._restore(note))
        except ServiceError as error:
            self._end(journal, State.FAILED, failure=_preparation_failure(error))
            return False
        count = self.run.request.num_processes
        note(f"starting {count} {'process' if count == 1 else 'processes'}")
        return True

    async def _inherit(self, note: Note) -> None:
        first = self.run.request.first_attempt
        older = [run for run in self._predecessors() if run.request.name.attempt >= first]
        with disk_trouble_named():
            await asyncio.to_thread(clear_cut_short, self.run.checkpoints)
            told = [(run.checkpoints, run.history()) for run in older]
            step = await asyncio.to_thread(inherit, self.run.checkpoints, told)
            await asyncio.to_thread(inherit_answers, self.run.answers, [run.answers for run in older])
        if step:
            note(f"an earlier attempt left a checkpoint of step {step}")

    async def _restore(self, note: Note) -> None:
        request = self.run.request
        if request.name.attempt > max(1, request.first_attempt):
            with disk_trouble_named():
                await persist(
                    lambda: self._means.restoring.restore(self.run, note),
                    is_final=is_not_transient,
                    note=note,
                    clock=self._means.clock,
                )

    async def _launch(self) -> None:
        launcher = self._means.launcher
        # One that waited for a run may be lost at this very moment; that is no fault of the run.
        for launch in (launcher.launch_warm, launcher.launch):
            if await self._has_started(await asyncio.to_thread(launch, self.run)) or self._wished.is_set():
                return
        self._end_unstarted()

    async def _has_started(self, supervisor: subprocess.Popen[bytes] | None) -> bool:
        """Whether it has taken the run over; waits until it has or is gone."""
        if supervisor is None:
            return False
        await self._reap()
        self._supervisor = supervisor
        log.info("supervisor.started", pid=supervisor.pid)
        while supervisor.poll() is None and not self.run.history().started:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(_POLL_SECONDS / 4)
        return self.run.history().started

    def _end_unstarted(self) -> None:
        message = f"the run's supervisor did not start: {self.run.supervisor_log()}"
        with Journal.open(self.run.journal) as journal:
            self._end(journal, State.FAILED, failure=Failure.because("TRAINING_PROCESS_EXITED", message))

    async def _watch(self) -> None:
        """While the supervisor has the journal; brings its checkpoints to storage, and it the wish, if there is one."""
        uploading = asyncio.create_task(self._means.checkpoints.follow(self.run))
        try:
            await self._watch_supervisor()
        finally:
            uploading.cancel()
            await asyncio.gather(uploading, return_exceptions=True)

    async def _watch_supervisor(self) -> None:
        asked: float | None = None
        while is_busy(self.run.journal):
            history = self.run.history()
            supervisor = history.supervisor
            if self._wished.is_set() and supervisor is not None:
                if asked is None:
                    asked = self._means.clock()
                    with around("kill"):
                        supervisor.send(signal.SIGTERM)
                elif self._means.clock() - asked > self._means.launcher.grace + history.patience + _KILL_MARGIN_SECONDS:
                    log.warning("supervisor.killed", pid=supervisor.pid)
                    processes.kill(await self._living(history))
            await self._pause()

    async def _pause(self) -> None:
        """A quarter of a second while nothing is wished: a run lasts long, and all that waits for its end is the upload."""
        if self._wished.is_set():
            await asyncio.sleep(_POLL_SECONDS)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WATCH_SECONDS):
                await self._wished.wait()

    async def _reap(self) -> None:
        """Without this a zombie would stay for every run; a supervisor lives a moment longer than its hold on the journal."""
        if self._supervisor is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._supervisor.wait, _REAP_SECONDS)

    async def _bury(self, journal: Journal, history: History) -> None:
        """The supervisor died without a word: nothing of the run may live on."""
        deadline = self._means.clock() + _BURIAL_SECONDS
        cgroup.end(history.group)
        while left := await self._living(history):
            if self._means.clock() > deadline:
                log.error("run.not_buried", pids=sorted(left))
                break
            processes.kill(left)
            await asyncio.sleep(_POLL_SECONDS / 4)
        cgroup.end(history.group)
        lost = self.run.supervisor_log() or "it was killed, or the machine went down"
        journal.control("exit", exit_codes={}, cancelled=False, failed_rank=None, lost=lost)
        log.warning("supervisor.lost", detail=lost)

    async def _living(self, history: History) -> set[int]:
        """Process ids of everything that the run has started."""
        return cgroup.members(history.group) | await asyncio.to_thread(processes.of_run, self.run.path, history.supervisor)

    async def _supervisor_gone(self, history: History) -> None:
        """It lets go of the journal a moment before it is gone; a run that has ended has no process at all."""
        deadline = self._means.clock() + _LEAVING_SECONDS
        while history.supervisor and history.supervisor.is_alive() and self._means.clock() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS / 10)

    async def _finish(self, journal: Journal, history: History, end: Exit) -> None:
        if not end.went_well():
            loses_nothing = KINDS[self.run.request.kind].asks_models
            return self._end(journal, State.FAILED, failure=failure_of(history, loses_nothing=loses_nothing))
        if not history.artifact:
            try:
                delivered = await self._unless_wished(self._means.delivery.deliver(self.run, _notes(journal, history.step)))
            except ServiceError as error:
                return self._end(journal, State.FAILED, failure=dataclasses.replace(Failure.of(error), step=history.step))
            _record(journal, delivered)
        return self._end(journal, State.SUCCEEDED, artifact=self.run.history().artifact)

    async def _leave(self, journal: Journal, history: History) -> None:
        """Brings what a cancelled run has made to storage, if that does not take long."""
        leavings = KINDS[self.run.request.kind].leavings
        if leavings is None or self.run.result() is None:
            return
        note = _notes(journal, history.step)
        try:
            async with asyncio.timeout(_HASTY_UPLOAD_SECONDS):
                stored = await self._means.delivery.leave(self.run, note)
        except (TimeoutError, ServiceError) as error:
            note(f"what was made until then could not be stored: {error or 'it took too long'}", "WARNING")
        else:
            journal.events(leavings(self.run, stored.name))

    def _end_as_wished(self, journal: Journal, history: History, wish: Wish) -> None:
        if wish.stop is None:
            self._end(journal, State.CANCELLED)
        else:
            self._end(journal, State.FAILED, failure=dataclasses.replace(wish.stop, step=history.step))

    def _end(self, journal: Journal, state: State, *, failure: Failure | None = None, artifact: str = "") -> None:
        if failure is not None:
            failure = dataclasses.replace(failure, log_tail=self.run.log_tail())
        error = dataclasses.asdict(failure) if failure else None
        journal.control("end", state=state.value, error=error, artifact=artifact or None, early_end=self.run.history().early_end)
        log.info("run.ended", state=state.value, reason=failure.reason if failure else "")

    async def _unless_wished(self, operation: Coroutine[Any, Any, T]) -> T:
        """The result of `operation`; when a wish comes first, cancels it and raises _Wished."""
        working = asyncio.ensure_future(operation)
        wished = asyncio.ensure_future(self._wished.wait())
        try:
            await asyncio.wait((working, wished), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise _Wished
            return working.result()
        finally:
            working.cancel()
            wished.cancel()
            await asyncio.gather(working, wished, return_exceptions=True)


def _last_upload_seconds(wish: Wish | None) -> float:
    """How long the last checkpoints may take to storage: somebody waits for a cancelled run, the whole stack for a stopped one.

    What is not stored then is still on this trainer.
    """
    if wish is None:
        return _LAST_UPLOAD_SECONDS
    if wish.stop is not None and wish.stop.reason == "RUN_PAUSED":
        return _LAST_UPLOAD_SECONDS
    return _HASTY_UPLOAD_SECONDS


def _notes(journal: Journal, step: int = 0) -> Note:
    """Writes log entries of the trainer itself."""

    def note(text: str, severity: str = "INFO") -> None:
        journal.event("log", severity=severity, rank=-1, source="trainer", text=text, truncated=False, step=step)

    return note


def _record(journal: Journal, delivered: Delivered) -> None:
    # With one write, so that nothing is told twice.
    stored = delivered.stored
    told = {"artifact": stored.name, "size_bytes": stored.size_bytes, "expire_time": stored.expire_time}
    journal.events([*delivered.news, Event("artifact_created", told)])


def _preparation_failure(error: ServiceError) -> Failure:
    # A defect elsewhere says nothing to somebody who reads it on a task.
    if error.reason == "INTERNAL":
        error = ServiceError("RUN_PREPARATION_FAILED", f"preparing the run failed: {error.message}", metadata=error.metadata)
    return Failure.of(error)
