"""Every run of this trainer, and a keeper for each that is not terminal; used by the servicer and started by `__main__`."""

import asyncio
import contextlib
import pathlib
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import structlog

from services.common.errors import InvalidArgument, NotFound, ServiceError
from services.trainer import conversion, wishes
from services.trainer.history import End
from services.trainer.keeper import Keeper, Means
from services.trainer.run import Failure, Request, RunName, Wish
from services.trainer.run_directory import RunDirectory

log = structlog.get_logger()

_STOP_MARGIN_SECONDS = 20.0
_MOST_SWEEP_SECONDS = 60.0
_PAUSED_RETENTION_SECONDS = 15 * 86_400.0


class Runs:
    """The registry over `root`, one directory a run; room for `capacity` processes. `clock` in seconds since 1970."""

    def __init__(self, root: pathlib.Path, means: Means, *, capacity: int, retention: float, clock: Callable[[], float]) -> None:
        self._root = root
        self._means = means
        self.capacity = capacity
        """Processes that may run at once."""
        self._retention = retention
        self._clock = clock
        self._runs: dict[RunName, RunDirectory] = {}
        self._keepers: dict[RunName, Keeper] = {}
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Inside, runs make progress; on leaving, their processes go on by themselves and wait for the next trainer."""
        self._load()
        failure: Exception | None = None
        async with asyncio.TaskGroup() as self._group:
            self._spawn(self._sweep(), "sweep")
            for run in self.active():
                self._keep(run)
            try:
                yield
            except Exception as error:
                # The group would wrap it, and nobody would recognise a port that is taken.
                failure = error
            for task in self._tasks:
                task.cancel()
        if failure is not None:
            raise failure

    def start(self, request: Request) -> RunDirectory:
        """A new run, or the one of that name as it is; raises STALE_EPOCH, TOO_MANY_PROCESSES, NO_CAPACITY, SERVER_STOPPING."""
        if request.name in self._runs:
            return self._runs[request.name]
        if self._stopping or self._group is None:
            raise ServiceError("SERVER_STOPPING", "the trainer is stopping and takes no new run")
        self._check_epoch(request)
        self._check_room(request)
        for older in self._active_of_task(request):
            message = f"attempt {request.name.attempt} of the task has started with epoch {request.epoch}"
            self._keepers[older.request.name].wish(Wish(Failure.because("STALE_EPOCH", message)))
        run = self._runs[request.name] = RunDirectory.create(self._root, request)
        self._keep(run)
        log.info("run.created", run=str(request.name), epoch=request.epoch)
        return run

    def get(self, name: RunName) -> RunDirectory:
        """Raises NotFound."""
        if name not in self._runs:
            raise NotFound("RUN_NOT_FOUND", str(name), message=f"this trainer does not have {name}")
        return self._runs[name]

    def newest_first(self) -> list[RunDirectory]:
        """Newest first."""
        return sorted(self._runs.values(), key=lambda run: run.request.create_time, reverse=True)

    def active(self) -> list[RunDirectory]:
        """Those that are not terminal."""
        return [run for run in self._runs.values() if run.is_active()]

    def is_idle(self) -> bool:
        """Whether no run is active."""
        return not any(run.is_active() for run in self._runs.values())

    def free(self) -> int:
        """Processes that could be started now."""
        return max(0, self.capacity - sum(run.request.num_processes for run in self.active()))

    def cancel(self, name: RunName) -> RunDirectory:
        """Wishes the end of a run; a finished one stays as it is. Raises NotFound."""
        run = self.get(name)
        if run.is_active():
            self._keepers[name].wish(Wish())
        return run

    def pause(self, name: RunName) -> RunDirectory:
        """Wishes that a run comes to rest; a finished one stays as it is. Raises NotFound."""
        run = self.get(name)
        if run.is_active():
            self._keepers[name].wish(Wish(Failure.because("RUN_PAUSED", "the run was paused as asked for")))
        return run

    def save_checkpoint(self, name: RunName, label: str) -> RunDirectory:
        """Asks a run for a checkpoint; raises NotFound, and RUN_NOT_RUNNING when it has ended or is being ended."""
        run = self.get(name)
        history = run.history()
        if history.end is not None or history.exit is not None or run.wish() is not None:
            raise ServiceError("RUN_NOT_RUNNING", f"{name} has ended or is being ended")
        wishes.leave(run.checkpoints, label)
        return run

    async def stop(self) -> None:
        """Ends every run for good: no process is left, and each journal says RUN_STOPPED."""
        self._stopping = True
        wish = Wish(Failure.because("RUN_STOPPED", "the stack was stopped while the run was active"))
        for run in self.active():
            self._keepers[run.request.name].wish(wish)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._means.launcher.grace + _STOP_MARGIN_SECONDS):
                while self.active():  # noqa: ASYNC110 - other processes end them
                    await asyncio.sleep(0.05)

    def _load(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        for path in self._root.iterdir():
            if path.name.startswith("."):
                shutil.rmtree(path, ignore_errors=True)
                continue
            try:
                self._load_one(path)
            except (InvalidArgument, ValueError, KeyError, OSError) as error:
                # What cannot be read is left as it is, for a person to look at.
                log.warning("run.unreadable", directory=path.name, detail=str(error))

    def _load_one(self, path: pathlib.Path) -> None:
        name = RunName.parse(f"runs/{path.name}")
        run = RunDirectory(path, conversion.request_from_document((path / "run.json").read_text()))
        run.history()
        self._runs[name] = run

    def _keep(self, run: RunDirectory) -> None:
        keeper = Keeper(run, self._means, lambda: self._predecessors(run))
        self._keepers[run.request.name] = keeper
        self._spawn(keeper.keep(), f"keep {run.request.name}")

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        assert self._group is not None
        task = self._group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _predecessors(self, run: RunDirectory) -> list[RunDirectory]:
        def age(one: RunDirectory) -> tuple[float, int]:
            return one.request.create_time, one.request.name.attempt

        same_task = [other for other in self._runs.values() if other.request.name.task_id == run.request.name.task_id]
        return sorted((other for other in same_task if age(other) < age(run)), key=age, reverse=True)

    def _active_of_task(self, request: Request) -> list[RunDirectory]:
        return [run for run in self.active() if run.request.name.task_id == request.name.task_id]

    def _check_epoch(self, request: Request) -> None:
        for run in self._runs.values():
            if run.request.name.task_id == request.name.task_id and run.request.epoch > request.epoch:
                metadata = {"epoch": str(run.request.epoch), "run": str(run.request.name)}
                message = f"{run.request.name} of epoch {run.request.epoch} is newer than epoch {request.epoch}"
                raise ServiceError("STALE_EPOCH", message, metadata=metadata)

    def _check_room(self, request: Request) -> None:
        needed = request.num_processes
        if needed > self.capacity:
            message = f"the run needs {needed} processes, this trainer has {self.capacity}"
            raise ServiceError("TOO_MANY_PROCESSES", message, metadata={"total_processes": str(self.capacity)})
        # What the task's own older run holds will be free by the time the new one starts.
        room = self.free() + sum(run.request.num_processes for run in self._active_of_task(request))
        if needed > room:
            message = f"the run needs {needed} processes, {room} of {self.capacity} are free"
            raise ServiceError("NO_CAPACITY", message, metadata={"free_processes": str(room)})

    async def _sweep(self) -> None:
        """Deletes the directories of runs that ended long ago."""
        while True:
            for run in self.newest_first():
                end = run.history().end
                if end is not None and self._clock() - end.time > self._retention_of(end):
                    await self._remove(run)
            await asyncio.sleep(min(_MOST_SWEEP_SECONDS, max(0.1, self._retention / 4)))

    def _retention_of(self, end: End) -> float:
        # The checkpoint of a paused run is all there is of it.
        paused = end.failure is not None and end.failure.reason == "RUN_PAUSED"
        return max(self._retention, _PAUSED_RETENTION_SECONDS) if paused else self._retention

    async def _remove(self, run: RunDirectory) -> None:
        self._runs.pop(run.request.name, None)
        self._keepers.pop(run.request.name, None)
        try:
            await asyncio.to_thread(run.remove)
            log.info("run.removed", run=str(run.request.name))
        except OSError as error:
            log.warning("run.not_removed", run=str(run.request.name), detail=str(error))
