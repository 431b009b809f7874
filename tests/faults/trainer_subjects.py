"""The real trainer and the fake one behind the same handles, for the contract that both keep."""

import asyncio
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from typing import Any, Protocol

import grpc

from services.trainer import processes
from tests.faults import fake_worker
from tests.integration.trainer.trainer_face import Face, make_run
from tests.integration.trainer.trainer_storage import FakeStorage
from tests.ports import free_port
from tunesmith.v1 import trainer_service_pb2, trainer_service_pb2_grpc

CAPACITY = 4
REPOSITORY = pathlib.Path(__file__).parents[2]


class Subject(Protocol):
    """A trainer process with four processes of capacity."""

    stub: Any
    runs: pathlib.Path

    async def start(self) -> None:
        """Until it answers; also after a kill."""

    async def end(self, number: signal.Signals) -> int:
        """A signal, and its end."""

    def make(self, manner: int, steps: int, **more: Any) -> trainer_service_pb2.Run:
        """A run that behaves in a manner of `fake_worker`."""


def survivors(subject: Subject) -> set[int]:
    """Every living process that a run of this trainer has started."""
    return {pid for path in subject.runs.iterdir() for pid in processes.of_run(path, None)}


class RealTrainer(Face):
    """`python -m services.trainer` with a scripted training process."""

    def __init__(self, root: pathlib.Path, storage: FakeStorage) -> None:
        super().__init__(root, storage.port)
        self._storage = storage

    def make(self, manner: int, steps: int, **more: Any) -> trainer_service_pb2.Run:
        """See Subject."""
        script: list[dict[str, Any]] = []
        if manner & fake_worker.DEAF:
            script.append({"do": "ignore_sigterm"})
        if manner & fake_worker.DETACHED_CHILD:
            script.append({"do": "spawn", "detached": True})
        script.append({"do": "steps", "first": 1, "last": steps})
        if manner & fake_worker.HOLDS:
            script.append({"do": "wait_for", "file": "go"})
        script.append({"do": "exit", "code": 3} if manner & fake_worker.FAILS else {"do": "result", "step": steps})
        return make_run(self._storage.add_script(*script), **more)


class StandIn:
    """`python -m tests.faults.fake_trainer`."""

    def __init__(self, root: pathlib.Path, *, processes: int = CAPACITY, pace: float = 0.005, fence: float = 0.0) -> None:
        self.runs = root / "runs"
        self.address = f"127.0.0.1:{free_port()}"
        self._processes = processes
        self._pace = pace
        self._fence = fence
        self._log = root / "trainer.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.channel = grpc.aio.insecure_channel(self.address, options=[("grpc.max_reconnect_backoff_ms", 200)])
        self.stub = trainer_service_pb2_grpc.TrainerServiceStub(self.channel)

    async def start(self) -> None:
        """See Subject."""
        self.launch()
        await self.stub.GetCapacity(trainer_service_pb2.GetCapacityRequest(), wait_for_ready=True, timeout=30)

    def launch(self) -> None:
        """Starts the process, on the same port as before."""
        command = [sys.executable, "-m", "tests.faults.fake_trainer", self.address, str(self.runs)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, str(self._processes), str(self._pace), str(self._fence)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
                env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"},
            )

    async def end(self, number: signal.Signals) -> int:
        """See Subject."""
        assert self.process
        self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, 120)

    async def clean_up(self) -> None:
        """Nothing of a test outlives it."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        await self.channel.close()
        for path in self.runs.iterdir() if self.runs.exists() else ():
            processes.kill(processes.of_run(path, None))

    def make(self, manner: int, steps: int, **more: Any) -> trainer_service_pb2.Run:
        """See Subject."""
        return make_run(f"datasets/{uuid.uuid4()}", **more | {"seed": manner, "max_steps": steps})


@contextlib.asynccontextmanager
async def subject_of(kind: str, root: pathlib.Path) -> AsyncIterator[Subject]:
    """A started trainer, `real` or `fake`."""
    storage = FakeStorage()
    await storage.start()
    subject = RealTrainer(root, storage) if kind == "real" else StandIn(root)
    try:
        await subject.start()
        yield subject
    finally:
        await subject.clean_up()
        await storage.stop()
