"""A trainer for volume: real gRPC, real processes, a journal on disk, no torch. `python -m tests.faults.fake_trainer`.

Keeps the contract of TrainerService as the real one does (test_trainer_contract.py asks both). Arguments: address, directory,
number of processes, seconds a step takes, seconds of silence after which a strict one's runs end themselves (0 = relaxed).
"""

import asyncio
import contextlib
import pathlib
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from services.common.addresses import is_loopback
from services.common.errors import InvalidArgument, NotFound, ServiceError, Violation
from services.common.server import ServerSettings, serving, wait_for_signal
from tests.faults.fake_run import FakeRun, fill_end, write_contact
from tunesmith.v1 import task_event_pb2, trainer_service_pb2, trainer_service_pb2_grpc

_POLL_SECONDS = 0.02
_MOST_EVENTS = 500
_KILL_SECONDS = 1.0
"""In which a strict run has ended itself."""
Response = trainer_service_pb2.StreamRunEventsResponse


class FakeTrainer(trainer_service_pb2_grpc.TrainerServiceServicer):
    """Runs below `root`; `pace` in seconds a step."""

    def __init__(self, root: pathlib.Path, processes: int, pace: float, fence: float, *, heartbeat: float = 0.3) -> None:
        self._root = root
        self._processes = processes
        self._pace = pace
        self._fence = fence
        self._heartbeat = heartbeat
        self._runs: dict[str, FakeRun] = {}
        self._keepers: set[asyncio.Task[None]] = set()
        self.stopping = asyncio.Event()

    def load(self) -> None:
        """Goes on with what is there."""
        self._root.mkdir(parents=True, exist_ok=True)
        for path in self._root.iterdir():
            if not path.name.startswith("."):
                self._runs[f"runs/{path.name}"] = FakeRun(path)
        for run in self._active():
            self._keep(run)

    async def StartRun(self, request: Any, context: Any) -> trainer_service_pb2.Run:
        self._heard()
        asked = request.run
        if asked.name in self._runs:
            return self._runs[asked.name].to_proto()
        self._check(asked)
        for older in self._of_task(asked):
            older.ask("STALE_EPOCH")
        run = self._runs[asked.name] = FakeRun.create(self._root, asked, self._pace, self._fence)
        self._keep(run)
        return run.to_proto()

    def _check(self, asked: trainer_service_pb2.Run) -> None:
        for run in self._runs.values():
            if run.asked.task == asked.task and run.asked.epoch > asked.epoch:
                raise ServiceError("STALE_EPOCH", f"{run.asked.name} is newer")
        needed = asked.hyperparameters.num_processes
        if needed > self._processes:
            raise ServiceError("TOO_MANY_PROCESSES", f"this trainer has {self._processes}")
        if needed > self._free() + sum(run.asked.hyperparameters.num_processes for run in self._of_task(asked)):
            raise ServiceError("NO_CAPACITY", f"{self._free()} of {self._processes} processes are free")

    async def GetRun(self, request: Any, context: Any) -> trainer_service_pb2.Run:
        return self._run(request.name).to_proto()

    async def ListRuns(self, request: Any, context: Any) -> trainer_service_pb2.ListRunsResponse:
        self._heard()
        runs = sorted(self._runs.values(), key=lambda run: run.asked.create_time.ToNanoseconds(), reverse=True)
        return trainer_service_pb2.ListRunsResponse(runs=[run.to_proto() for run in runs])

    async def CancelRun(self, request: Any, context: Any) -> trainer_service_pb2.Run:
        return self._ask(request.name, "CANCELLED")

    async def PauseRun(self, request: Any, context: Any) -> trainer_service_pb2.Run:
        return self._ask(request.name, "RUN_PAUSED")

    async def GetCapacity(self, request: Any, context: Any) -> trainer_service_pb2.Capacity:
        self._heard()
        return trainer_service_pb2.Capacity(
            fenced_after_seconds=self._fence and self._fence + _KILL_SECONDS,
            total_processes=self._processes,
            free_processes=self._free(),
            active_run_count=len(self._active()),
            device="cpu",
        )

    async def StreamRunEvents(self, request: Any, context: Any) -> AsyncIterator[Response]:
        run, cursor = self._run(request.name), request.after_sequence
        told = run.to_proto()
        if cursor < 0:
            raise InvalidArgument(Violation("after_sequence", f"{cursor} is negative"))
        if cursor > told.head_sequence:
            raise ServiceError("CURSOR_AHEAD", f"{request.name} has {told.head_sequence} events")
        yield Response(
            header=task_event_pb2.StreamHeader(
                first_available_sequence=1, head_sequence=told.head_sequence, epoch=run.asked.epoch, state=told.state
            )
        )
        sent = time.monotonic()
        while True:
            lines = run.lines()
            events = run.events(lines)[cursor:]
            for first in range(0, len(events), _MOST_EVENTS):
                yield Response(events=events[first : first + _MOST_EVENTS])
                cursor, sent = events[min(first + _MOST_EVENTS, len(events)) - 1].sequence, time.monotonic()
            if lines and "end" in lines[-1]:
                end = task_event_pb2.StreamEnd(head_sequence=cursor)
                fill_end(run.asked, lines[-1], end)
                yield Response(end=end)
                return
            if self.stopping.is_set():
                raise ServiceError("SERVER_STOPPING", "resume later", metadata={"after_sequence": str(cursor)})
            if time.monotonic() - sent >= self._heartbeat:
                yield Response(heartbeat=task_event_pb2.Heartbeat(head_sequence=cursor))
                sent = time.monotonic()
            await asyncio.sleep(_POLL_SECONDS)

    def _heard(self) -> None:
        write_contact(self._root)

    def _ask(self, name: str, wish: str) -> trainer_service_pb2.Run:
        self._heard()
        run = self._run(name)
        run.ask(wish)
        return run.to_proto()

    def _run(self, name: str) -> FakeRun:
        if name not in self._runs:
            raise NotFound("RUN_NOT_FOUND", name, message=f"this trainer does not have {name}")
        return self._runs[name]

    def _active(self) -> list[FakeRun]:
        return [run for run in self._runs.values() if run.is_active()]

    def _free(self) -> int:
        return max(0, self._processes - sum(run.asked.hyperparameters.num_processes for run in self._active()))

    def _of_task(self, asked: trainer_service_pb2.Run) -> list[FakeRun]:
        return [run for run in self._active() if run.asked.task == asked.task and run.asked.name != asked.name]

    def _keep(self, run: FakeRun) -> None:
        def older() -> list[FakeRun]:
            return [one for one in self._of_task(run.asked) if one.asked.epoch < run.asked.epoch]

        keeper = asyncio.create_task(run.keep(older))
        self._keepers.add(keeper)
        keeper.add_done_callback(self._keepers.discard)


async def serve(address: str, root: pathlib.Path, processes: int, pace: float, fence: float) -> None:
    """Until a signal; the workers go on."""
    assert is_loopback(address), address
    trainer = FakeTrainer(root, processes, pace, fence)
    trainer.load()
    names = ["tunesmith.v1.TrainerService"]
    settings = ServerSettings(listen=address)

    def register(server: Any) -> None:
        trainer_service_pb2_grpc.add_TrainerServiceServicer_to_server(trainer, server)

    async with serving(settings, register, names, stopping=trainer.stopping, grace=1.0):
        await wait_for_signal()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3]), *map(float, sys.argv[4:])))
