"""How fast events are appended: `python -m tests.bench.appends [--seconds 8]`.

One process without a network, a Postgres of its own with the settings of `tunesmith up`, fsync included. A frame is 100 points of
six metrics. Every append is acknowledged after its commit, before the next one of the same task is given.
"""

import argparse
import asyncio
import datetime
import os
import random
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from services import task_manager
from services.common.postgres import Pool, migrate, open_pool
from services.task_manager.domain.claim import Assignment
from services.task_manager.domain.placement import Machine
from services.task_manager.event_log import EventLog
from services.task_manager.hub import Hub
from services.task_manager.task_queue import TaskQueue
from tests.bench.cpu import spent
from tests.bench.task_tables import fill, postgres
from tunesmith.v1 import task_event_pb2

POINTS = 100
_METRICS = ("loss", "learning_rate", "grad_norm", "tokens", "tokens_per_second", "epoch")


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8)
    options = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.1f}\n")
    with postgres() as dsn:
        asyncio.run(measure(dsn, options.seconds))
    print(f"\nload after: {os.getloadavg()[0]:.1f}")


async def measure(dsn: str, seconds: float) -> None:
    """Few tasks and many, one frame in a transaction and as many as have arrived."""
    await migrate(dsn, "task_manager", Path(task_manager.__file__).parent / "migrations")
    fill(dsn, 400, 400)
    async with open_pool(dsn, application="bench") as pool:
        print("| tasks at once | frames in a transaction | frames a second | points a second | processor, ms a frame |")
        print("|---|---|---|---|---|")
        for tasks, frames in ((1, 1), (1, 16), (8, 1), (8, 16), (64, 1), (64, 16)):
            await print_rate(pool, await claimed(pool, tasks), frames, seconds)


async def claimed(pool: Pool, count: int) -> Sequence[Assignment]:
    """So many tasks, owned."""
    queue = TaskQueue(pool, Hub(), owner=uuid.uuid4(), lease=datetime.timedelta(hours=1))
    waiting = (await queue.look([Machine("m", 2, 2)])).waiting
    return await queue.claim([task.id for task in waiting[:count]], Machine("bench:1", 1_000_000, 1_000_000))


async def print_rate(pool: Pool, assignments: Sequence[Assignment], frames: int, seconds: float) -> None:
    """A row of the table."""
    log, deadline = EventLog(pool, Hub()), time.perf_counter() + seconds
    before, started = await spent(pool), time.perf_counter()
    stored = sum(await asyncio.gather(*(append(log, one, frames, deadline) for one in assignments)))
    rate = stored / (time.perf_counter() - started)
    processor = 1000 * (await spent(pool) - before) / stored
    print(f"| {len(assignments)} | {frames} | {rate:,.0f} | {rate * POINTS:,.0f} | {processor:.2f} |", flush=True)


async def append(log: EventLog, assignment: Assignment, frames: int, deadline: float) -> int:
    """Frames that were stored."""
    # Made once: what a trainer's message costs to read is not measured here.
    events, stored = points(0, frames * POINTS), 0
    while time.perf_counter() < deadline:
        for number, event in enumerate(events, stored * POINTS + 1):
            event.sequence = number
        await log.append(assignment.claim, stored * POINTS, events, None)
        stored += frames
    return stored


def points(after: int, count: int = POINTS) -> list[task_event_pb2.TaskEvent]:
    """Metric events that follow on a run's event; values that cannot be compressed, as measured ones."""
    return [_point(number) for number in range(after + 1, after + count + 1)]


def _point(number: int) -> task_event_pb2.TaskEvent:
    metrics = task_event_pb2.StepMetrics(step=number, values={name: random.random() for name in _METRICS})
    return task_event_pb2.TaskEvent(sequence=number, step_metrics=metrics)


if __name__ == "__main__":
    main()
