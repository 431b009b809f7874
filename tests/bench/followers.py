"""Many followers of one process: `python -m tests.bench.followers [--followers 2000] [--tasks 100] [--seconds 30]`.

A server with the whole way of a follower (edge, key check, store, protobuf over gRPC) and, in the same process, a publisher that
appends one frame a second to every task, each acknowledged after its commit. The followers are a process of their own. Told is
the time from before the append to the receipt, and what the server holds at the beginning and at the end. `--slow` adds readers
that never take a second message; with `--seconds 1800` it is a soak.
"""

import argparse
import asyncio
import contextlib
import datetime
import inspect
import json
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import grpc
import psutil

from services import task_manager
from services.common.channels import call_metadata
from services.common.config import Secret
from services.common.postgres import Pool, migrate, open_pool
from services.common.server import ServerSettings, serving
from services.task_manager.domain.claim import Assignment
from services.task_manager.domain.placement import Machine
from services.task_manager.event_log import EventLog
from services.task_manager.hub import Hub
from services.task_manager.servicer import TaskManagerServicer, utc_now
from services.task_manager.task_queue import TaskQueue
from services.task_manager.watch import Watch
from tests.bench.task_tables import fill, postgres
from tests.ports import free_port
from tunesmith.v1 import task_event_pb2, task_manager_service_pb2_grpc
from tunesmith.v1 import task_manager_service_pb2 as api

_PER_CHANNEL = 250
_KEY = "bench"
_OWN = (("grpc.use_local_subchannel_pool", 1),)
_WARM_SECONDS = 5.0


def main() -> None:
    """Prints a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--followers", type=int, default=2000)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--slow", type=int, default=0)
    parser.add_argument("--client", nargs="*", help="used inside")
    options = parser.parse_args()
    if options.client:
        address, *names = options.client
        asyncio.run(follow_all(address, names, options))
        return
    print(f"load before: {os.getloadavg()[0]:.1f}", file=sys.stderr)
    with postgres() as dsn:
        print(json.dumps(asyncio.run(measure(dsn, options))))
    print(f"load after: {os.getloadavg()[0]:.1f}", file=sys.stderr)


async def measure(dsn: str, options: argparse.Namespace) -> dict[str, Any]:
    """What the followers saw and what the server held."""
    await migrate(dsn, "task_manager", Path(task_manager.__file__).parent / "migrations")
    fill(dsn, options.tasks, options.tasks)
    hub, settings = Hub(), ServerSettings(listen=f"127.0.0.1:{free_port()}", api_key=Secret(_KEY), log_level="error")
    async with open_pool(dsn, application="bench") as pool:
        log = EventLog(pool, hub)
        assignments = await claim(pool, options.tasks)
        async with served(settings, log, hub):
            names = [f"tasks/{assignment.claim.task_id}" for assignment in assignments]
            arguments = ["--followers", str(options.followers), "--seconds", str(options.seconds), "--slow", str(options.slow)]
            command = (sys.executable, "-m", "tests.bench.followers", *arguments, "--client", settings.listen, *names)
            client = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            assert client.stdout
            assert await client.stdout.readline() == b"ready\n"
            publishing = asyncio.create_task(publish(log, assignments))
            await asyncio.sleep(_WARM_SECONDS)
            before, busy, began = held(pool), time.process_time(), time.perf_counter()
            seen = json.loads(await client.stdout.readline())
            cores = (time.process_time() - busy) / (time.perf_counter() - began)
            after = held(pool)
            publishing.cancel()
            await client.wait()
    return {"followers": options.followers, "tasks": options.tasks, "slow": options.slow, "cores": round(cores, 2), **seen,
            "before": before, "after": after}  # fmt: skip


async def claim(pool: Pool, count: int) -> list[Assignment]:
    """So many owned tasks."""
    queue, owned = TaskQueue(pool, Hub(), owner=uuid.uuid4(), lease=datetime.timedelta(hours=2)), list[Assignment]()
    while len(owned) < count:
        waiting = (await queue.look([Machine("m", 2, 2)])).waiting
        owned += await queue.claim([task.id for task in waiting[: count - len(owned)]], Machine("bench:1", 1_000_000, 1_000_000))
    return owned


@contextlib.asynccontextmanager
async def served(settings: ServerSettings, log: EventLog, hub: Hub) -> AsyncIterator[None]:
    """The real servicer; only its streams are used."""
    stopping = asyncio.Event()
    watch = Watch(log, hub, stopping, heartbeat_interval=15, poll_interval=1, now=utc_now)
    nothing = dict.fromkeys(inspect.signature(TaskManagerServicer).parameters)
    servicer = TaskManagerServicer(**cast(dict[str, Any], nothing | {"watch": watch}))

    def register(server: grpc.aio.Server) -> None:
        task_manager_service_pb2_grpc.add_TaskManagerServiceServicer_to_server(servicer, server)

    async with serving(settings, register, ["tunesmith.v1.TaskManagerService"], stopping=stopping):
        yield


async def publish(log: EventLog, assignments: Sequence[Assignment]) -> None:
    """A frame a second for every task, spread over the second."""

    async def one(assignment: Assignment, delay: float) -> None:
        await asyncio.sleep(delay)
        number, due = 0, time.perf_counter()
        while True:
            number += 1
            event = task_event_pb2.TaskEvent(sequence=number, step_metrics=task_event_pb2.StepMetrics(step=number))
            event.step_metrics.values.update({"loss": 1 / number, "learning_rate": 2e-4, "tokens_per_second": 140.0})
            event.time.FromNanoseconds(time.time_ns())
            await log.append(assignment.claim, number - 1, [event], None)
            due += 1
            await asyncio.sleep(max(0.0, due - time.perf_counter()))

    await asyncio.gather(*(one(each, index / len(assignments)) for index, each in enumerate(assignments)))


def held(pool: Pool) -> dict[str, float]:
    """Of this process: resident MiB, open files, and connections to Postgres."""
    process = psutil.Process()
    megabytes = round(process.memory_info().rss / 2**20, 1)
    return {"rss_mib": megabytes, "files": process.num_fds(), "connections": pool.get_stats()["pool_size"]}


async def follow_all(address: str, names: Sequence[str], options: argparse.Namespace) -> None:
    """Follows, and prints what was seen after a while to get going."""
    latencies: list[float] = []
    count = options.followers + options.slow
    async with contextlib.AsyncExitStack() as stack:
        # Channels to one address would share one connection, and with it the limit of streams.
        channels = [grpc.aio.insecure_channel(address, options=_OWN) for _ in range(-(-count // _PER_CHANNEL))]
        for channel in channels:
            await stack.enter_async_context(channel)
        stubs = [task_manager_service_pb2_grpc.TaskManagerServiceStub(channel) for channel in channels]
        pairs = _pairs(stubs, names, options.followers)
        followers = [asyncio.create_task(follow(stub, name, latencies)) for stub, name in pairs]
        slow = [stub.WatchTask(_request(name), metadata=call_metadata(_KEY)) for stub, name in _pairs(stubs, names, options.slow)]
        for call in slow:
            await call.read()
        print("ready", flush=True)
        await asyncio.sleep(2 * _WARM_SECONDS)
        latencies.clear()
        started = time.perf_counter()
        await asyncio.sleep(options.seconds)
        elapsed, seen = time.perf_counter() - started, sorted(latencies)
        print(json.dumps(summary(seen, elapsed)), flush=True)
        for task in followers:
            task.cancel()
        await asyncio.gather(*followers, return_exceptions=True)


def summary(seen: Sequence[float], elapsed: float) -> dict[str, float]:
    """Milliseconds and messages a second."""
    percentiles = {f"p{share}_ms": round(1000 * seen[min(len(seen) - 1, len(seen) * share // 100)], 1) for share in (50, 99, 100)}
    return {"messages_per_second": round(len(seen) / elapsed), **percentiles}


async def follow(stub: Any, name: str, latencies: list[float]) -> None:
    """Every event of a run with the time it took, in seconds."""
    async for message in stub.WatchTask(_request(name), metadata=call_metadata(_KEY)):
        now = time.time()
        latencies += (now - event.time.ToNanoseconds() / 1e9 for event in message.events if event.HasField("step_metrics"))


def _pairs(stubs: Sequence[Any], names: Sequence[str], count: int) -> list[tuple[Any, str]]:
    return [(stubs[number % len(stubs)], names[number % len(names)]) for number in range(count)]


def _request(name: str) -> api.WatchTaskRequest:
    return api.WatchTaskRequest(name=name)


if __name__ == "__main__":
    main()
