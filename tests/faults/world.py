"""Two task managers on one database, two stand-in trainers, a proxy on every wire: what schedules of faults are played on."""

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence

import grpc

from services.common.failpoints import VARIABLE
from tests.faults.proxy import Mood, Proxy
from tests.faults.trainer_subjects import REPOSITORY, StandIn
from tests.integration.task_manager.fake_peers import FakeStorage, serving_storage
from tests.ports import free_port
from tunesmith.v1 import task_manager_service_pb2_grpc

TRAINER_PROCESSES = 3
# Everything at about a fifteenth of what is set by default, so that a minute of outage is four seconds.
SCALED: Mapping[str, str] = {
    "LEASE": "1s",
    "LEASE_RENEWAL": "300ms",
    "DISPATCH_INTERVAL": "100ms",
    "RETRY_INTERVAL": "100ms",
    "RETRY_BACKOFF": "20ms",
    "FLUSH_INTERVAL": "10ms",
    "ORPHAN_INTERVAL": "200ms",
    "HEARTBEAT_INTERVAL": "300ms",
    "WATCH_INTERVAL": "100ms",
    "START_TIMEOUT": "2s",
    "MAX_LOST_RUNS": "50",
}
_SERVER_ENDED = -signal.SIGKILL


class Manager:
    """A task manager process behind a proxy to Postgres; killed, stopped and started again on the same port."""

    def __init__(
        self,
        dsn: str,
        directory: pathlib.Path,
        number: int,
        module: str,
        settings: Mapping[str, str],
        environment: Mapping[str, str],
    ) -> None:
        credentials, _, place = dsn.rpartition("@")
        target, _, self._database = place.partition("/")
        self.postgres = Proxy(target)
        self._credentials = credentials
        self._module = module
        self._settings = settings
        self._environment = environment
        self.listen = f"127.0.0.1:{free_port()}"
        self._log = directory / f"manager-{number}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.channel = grpc.aio.insecure_channel(
            self.listen, options=[("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]
        )
        self.stub = task_manager_service_pb2_grpc.TaskManagerServiceStub(self.channel)

    def start(self, storage: str, trainers: str, failpoints: str = "") -> None:
        """Returns at once."""
        values = {**self._settings, "LISTEN": self.listen, "STORAGE_ADDRESS": storage, "TRAINER_ADDRESSES": trainers}
        environment = {f"TUNESMITH_TASK_MANAGER_{name}": value for name, value in values.items()}
        environment |= {"PATH": os.environ["PATH"], VARIABLE: failpoints, "TZ": os.environ.get("TZ", "UTC")}
        environment |= self._environment
        environment["TUNESMITH_POSTGRES_DSN"] = f"{self._credentials}@{self.postgres.address}/{self._database}"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self._module], env=environment, stdout=log, stderr=log, cwd=REPOSITORY
            )

    def send(self, number: signal.Signals) -> None:
        """To the process, if it lives."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)

    async def ended(self) -> int:
        """The exit code, once it has ended."""
        assert self.process
        return await asyncio.to_thread(self.process.wait, 120)

    def log(self) -> str:
        """What all its processes have said."""
        return self._log.read_text()


@dataclasses.dataclass
class World:
    """Made by `world_of`."""

    managers: list[Manager]
    trainers: list[StandIn]
    wires: list[Proxy]
    """To the trainers, in their order; both task managers know a trainer by its wire."""
    storage: str
    storage_wire: Proxy

    def start(self, manager: Manager, failpoints: str = "") -> None:
        """Starts a task manager that does not run."""
        manager.start(self.storage_wire.address, ",".join(wire.address for wire in self.wires), failpoints)

    async def ready(self, manager: Manager) -> None:
        """Until it answers."""
        await manager.channel.channel_ready()

    def heal(self) -> None:
        """Every wire passes, every process runs."""
        for wire in [*self.wires, self.storage_wire, *(manager.postgres for manager in self.managers)]:
            wire.delay = 0.0
            wire.set(Mood.PASS)
        for manager in self.managers:
            manager.send(signal.SIGCONT)
            if manager.process is None or manager.process.poll() is not None:
                self.start(manager)
        for trainer in self.trainers:
            if trainer.process is None or trainer.process.poll() is not None:
                trainer.launch()

    def roots(self) -> list[pathlib.Path]:
        """The directories of the trainers' runs."""
        return [trainer.runs for trainer in self.trainers]


@contextlib.asynccontextmanager
async def world_of(
    dsn: str,
    directory: pathlib.Path,
    *,
    managers: int = 2,
    trainers: int = 2,
    failpoints: Mapping[int, str] | None = None,
    module: str = "services.task_manager",
    pace: float = 0.02,
    fence: float = 0.0,
    environments: Sequence[Mapping[str, str]] = (),
    settings: Mapping[str, str] = SCALED,
) -> AsyncIterator[World]:
    """A started world; `failpoints` by number of the task manager; `module` is what is run as one.

    `settings`: of the task managers, without their prefix; `environments`: what else each is told.
    `fence`: seconds of silence after which runs end themselves, 0 = never.
    """
    async with contextlib.AsyncExitStack() as stack:
        storage = await stack.enter_async_context(serving_storage(FakeStorage()))
        stand_ins = []
        for number in range(trainers):
            (directory / f"trainer-{number}").mkdir()
            one = StandIn(directory / f"trainer-{number}", processes=TRAINER_PROCESSES, pace=pace, fence=fence)
            stand_ins.append(one)
            one.launch()
            stack.push_async_callback(one.clean_up)
        wires = [await stack.enter_async_context(Proxy(one.address).serving()) for one in stand_ins]
        storage_wire = await stack.enter_async_context(Proxy(storage).serving())
        more = [*environments, *[{}] * managers]
        processes = [Manager(dsn, directory, number, module, settings, more[number]) for number in range(managers)]
        world = World(processes, stand_ins, wires, storage, storage_wire)
        for number, manager in enumerate(processes):
            await stack.enter_async_context(manager.postgres.serving())
            stack.push_async_callback(_end, manager)
            world.start(manager, (failpoints or {}).get(number, ""))
        async with asyncio.timeout(60):
            for manager in processes:
                await world.ready(manager)
        yield world


async def _end(manager: Manager) -> None:
    manager.send(signal.SIGKILL)
    if manager.process:
        await asyncio.to_thread(manager.process.wait)
    await manager.channel.close()


def deadline(seconds: float) -> float:
    """So far from now, on the monotonic clock."""
    return time.monotonic() + seconds
