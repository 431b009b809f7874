"""From a call to its effect: `python -m tests.bench.dispatch [--tasks 300] [--cancels 48]`.

A task manager as a process of its own with its default settings, a Postgres of its own with fsync, real gRPC on every way.
*Dispatched*: from before CreateTask is called until StartRun is called at a trainer. *Gone*: from before CancelTask is called
until no process of the run is left, on a real trainer with its default settings; training is scripted, and every second four
runs ignore SIGTERM and have a child in a session of its own that does so, too.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc

from services.common import logs
from services.trainer import processes
from tests.bench.task_tables import postgres
from tests.faults.trainer_subjects import REPOSITORY, RealTrainer
from tests.integration.task_manager.fake_peers import DATASET, FakeStorage, FakeTrainer, serving_storage
from tests.integration.task_manager.manager_harness import a_task
from tests.integration.trainer.trainer_face import eventually
from tests.integration.trainer.trainer_scripts import RUNS_ON
from tests.integration.trainer.trainer_storage import FakeStorage as TrainersStorage
from tests.ports import free_port
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1 import task_manager_service_pb2_grpc, task_pb2

STUBBORN = ({"do": "ignore_sigterm"}, {"do": "spawn", "detached": True}, *RUNS_ON)


def main() -> None:
    """Prints lines of Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--cancels", type=int, default=48)
    options = parser.parse_args()
    logs.configure("bench", "error")
    print(f"load before: {os.getloadavg()[0]:.1f}\n\n| from the call until | p50 | p99 | slowest |\n|---|---|---|---|")
    with postgres() as dsn, tempfile.TemporaryDirectory(prefix="dispatch") as directory:
        asyncio.run(measure(dsn, Path(directory), options.tasks, options.cancels))
    print(f"\nload after: {os.getloadavg()[0]:.1f}")


async def measure(dsn: str, directory: Path, tasks: int, cancels: int) -> None:
    """Both, one after the other, each with a task manager and trainers of its own."""
    storage = FakeStorage()
    async with serving_storage(storage) as address:
        if tasks:
            await print_dispatches(dsn, address, tasks)
        if cancels:
            await print_cancels(dsn, address, directory, cancels)


class Arrivals(FakeTrainer):
    """Notes when each run arrives; runs end well at once."""

    def __init__(self) -> None:
        super().__init__(total_processes=1_000)
        self.times: dict[str, float] = {}
        self.arrived = asyncio.Event()
        self.script = lambda run: run.succeed(steps=1)

    async def StartRun(self, request: Any, context: Any) -> Any:
        """See TrainerService."""
        self.times.setdefault(request.run.task, time.perf_counter())
        self.arrived.set()
        return await super().StartRun(request, context)


async def print_dispatches(dsn: str, storage: str, count: int) -> None:
    """One task after the other, so that each is measured by itself; then as many at once as arrive in a burst."""
    trainer = Arrivals()
    await trainer.start()
    async with manager(dsn, storage, trainer.address) as stub:
        for name, at_once in (("dispatched, one task at a time", 1), ("dispatched, 20 tasks at once", 20)):
            created: dict[str, float] = {}
            for _ in range(0, count, at_once):
                created |= dict(await asyncio.gather(*(create(stub) for _ in range(at_once))))
                while not created.keys() <= trainer.times.keys():
                    await trainer.arrived.wait()
                    trainer.arrived.clear()
            print_row(f"{name}, ms", [1000 * (trainer.times[task] - called) for task, called in created.items()])
    await trainer.close()


async def print_cancels(dsn: str, storage: str, directory: Path, count: int) -> None:
    """Four runs at a time, since that is what the trainer holds."""
    scripts = TrainersStorage()
    await scripts.start()
    trainer = RealTrainer(directory, scripts)
    del trainer.settings["STOP_GRACE"]
    await trainer.start()
    taken: list[float] = []
    async with manager(dsn, storage, trainer.address) as stub:
        while len(taken) < count:
            # The same name for whatever is asked for: the task manager's storage knows one dataset.
            scripts.datasets[DATASET] = scripts.datasets.pop(scripts.add_script(*(STUBBORN if len(taken) % 8 else RUNS_ON)))
            names = [name for name, _ in await asyncio.gather(*(create(stub) for _ in range(4)))]
            taken += await asyncio.gather(*(gone(stub, trainer, name) for name in names))
    await trainer.clean_up()
    await scripts.stop()
    print_row("gone, s", taken)


async def gone(stub: Any, trainer: RealTrainer, name: str) -> float:
    """Seconds from the call to the end of the last process; the run computes when it is called."""
    directory = trainer.directory(f"runs/{name.removeprefix('tasks/')}-1")
    await eventually((directory / "ready").exists, f"{name} does not train")
    called = time.perf_counter()
    await stub.CancelTask(api.CancelTaskRequest(name=name))
    await eventually(lambda: not processes.of_run(directory, None), f"{name} has processes")
    taken = time.perf_counter() - called
    assert (await stub.GetTask(api.GetTaskRequest(name=name))).state in (task_pb2.Task.CANCELLING, task_pb2.Task.CANCELLED)
    return taken


async def create(stub: Any) -> tuple[str, float]:
    """The task's name, and when it was asked for."""
    called = time.perf_counter()
    task = await stub.CreateTask(api.CreateTaskRequest(task=a_task(), request_id=str(uuid.uuid4())))
    return task.name, called


@contextlib.asynccontextmanager
async def manager(dsn: str, storage: str, trainer: str) -> AsyncIterator[Any]:
    """A stub of a running task manager in a database of its own schema."""
    address = f"127.0.0.1:{free_port()}"
    environment = {
        **os.environ,
        "TUNESMITH_POSTGRES_DSN": dsn,
        "TUNESMITH_TASK_MANAGER_LISTEN": address,
        "TUNESMITH_TASK_MANAGER_STORAGE_ADDRESS": storage,
        "TUNESMITH_TASK_MANAGER_TRAINER_ADDRESSES": trainer,
        "TUNESMITH_TASK_MANAGER_LOG_LEVEL": "error",
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.task_manager", env=environment, cwd=REPOSITORY)
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            stub: Any = task_manager_service_pb2_grpc.TaskManagerServiceStub(channel)
            await stub.ListTasks(api.ListTasksRequest(), wait_for_ready=True, timeout=60)
            yield stub
    finally:
        process.terminate()
        await process.wait()


def print_row(name: str, taken: Sequence[float]) -> None:
    """A row of the table."""
    ordered = sorted(taken)
    middle, last = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    print(f"| {name} ({len(ordered)}) | {middle:.1f} | {last:.1f} | {ordered[-1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
