"""Speed of the task manager's tables: `python -m tests.bench.listing [--tasks 1000000] [--queued 100000]`.

Everything is measured inside one process against a Postgres with its default settings, fsync included: pages of ListTasks from
request to response, claims, the replay of a long stream. No network is in it.
"""

import argparse
import asyncio
import datetime
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

from google.protobuf import timestamp_pb2

from services import task_manager
from services.common.postgres import Pool, migrate, open_pool
from services.task_manager.domain.claim import Assignment
from services.task_manager.domain.placement import Machine
from services.task_manager.domain.schedule import decide
from services.task_manager.domain.waiting import Trainers
from services.task_manager.event_log import EventLog
from services.task_manager.fleet import Fleet
from services.task_manager.hub import Hub
from services.task_manager.outlook import Outlook
from services.task_manager.servicer import utc_now
from services.task_manager.stream_messages import watch_response
from services.task_manager.task_listing import TaskListing
from services.task_manager.task_pages import TaskPages
from services.task_manager.task_queue import TaskQueue
from services.task_manager.watch import Watch
from tests.bench.appends import points
from tests.bench.cpu import spent
from tests.bench.task_tables import fill, postgres
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1 import task_pb2, task_spec_pb2

Task, Filter = task_pb2.Task, api.TaskFilter

_PAGES = 200
_SECONDS = 10.0
_REPLAYED = 100_000
_ROOMY = Machine("bench:1", 1_000_000, 1_000_000)


def main() -> None:
    """Prints tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--queued", type=int, default=100_000)
    options = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.1f}; {options.tasks:,} tasks, {options.queued:,} of them waiting\n")
    with postgres() as dsn:
        asyncio.run(measure(dsn, options.tasks, options.queued))
    print(f"\nload after: {os.getloadavg()[0]:.1f}")


async def measure(dsn: str, tasks: int, queued: int) -> None:
    """All measurements on one database."""
    await migrate(dsn, "task_manager", Path(task_manager.__file__).parent / "migrations")
    started = time.perf_counter()
    fill(dsn, tasks, queued)
    print(f"filled in {time.perf_counter() - started:.0f} s\n")
    async with open_pool(dsn, application="bench") as pool:
        queue = TaskQueue(pool, Hub(), owner=uuid.uuid4(), lease=datetime.timedelta(hours=1))
        await print_pages(pool, queue)
        claimed = await print_claims(pool, queue)
        await print_replay(pool, claimed[0])


def requests() -> dict[str, api.ListTasksRequest]:
    """What people ask for, from the common to the worst."""
    filters = {
        "everything": Filter(),
        "ended well": Filter(states=[Task.SUCCEEDED]),
        "waiting": Filter(states=[Task.QUEUED]),
        "one rare state (10 tasks)": Filter(states=[Task.PAUSED]),
        "three states, two of them rare": Filter(states=[Task.PAUSED, Task.RUNNING, Task.STARTING]),
        "a label of 1 in 20": Filter(labels={"team": "t7"}),
        "a label of 1 in 5,000": Filter(labels={"user": "u77"}),
        "a base model of 1 in 4": Filter(base_model="baseModels/m1"),
        "a base model of 1 in 10,000": Filter(base_model="baseModels/m9"),
        "a method of 1 in 20,000": Filter(methods=[task_spec_pb2.FineTuning.KTO]),
        "a common text": Filter(text="night"),
        "a text of 1 in 100,000": Filter(text="needle"),
        "a text that nothing has": Filter(text="no such text"),
        "a common text of several words": Filter(text="of the support team"),
        "a common text and a label of 1 in 5,000": Filter(text="night", labels={"user": "u77"}),
        "a rare text and a common state": Filter(text="needle", states=[Task.SUCCEEDED]),
        "a text of 1 in 270": Filter(text="777"),
        "a text of two letters that nothing has": Filter(text="zz"),
        "a text of two letters of 1 in 100,000": Filter(text="dl"),
        "a letter that nothing has": Filter(text="z"),
        "a letter of 1 in 100,000": Filter(text="d"),
        "a creator of 1 in 40": Filter(creator="user-4"),
    }
    return {name: api.ListTasksRequest(filter=wanted) for name, wanted in filters.items()}


def counted() -> dict[str, api.ListTasksRequest]:
    """Filters that people have counted; the last ones find little and are looked up by what finds much."""
    half = timestamp_pb2.Timestamp()
    half.FromDatetime(utc_now() - datetime.timedelta(seconds=5_000_000))
    filters = {
        "everything": Filter(),
        "a label of 1 in 20": Filter(labels={"team": "t7"}),
        "a label of 1 in 20, a state": Filter(labels={"team": "t7"}, states=[Task.CANCELLED]),
        "a label of 1 in 5,000": Filter(labels={"user": "u77"}),
        "a method of nearly all": Filter(methods=[task_spec_pb2.FineTuning.SFT]),
        "a base model of 1 in 4": Filter(base_model="baseModels/m1"),
        "a creator of 1 in 40": Filter(creator="user-4"),
        "older than a certain time": Filter(before_create_time=half),
        "a common text": Filter(text="night"),
        "a text of 1 in 270": Filter(text="777"),
        "a text of 1 in 100,000": Filter(text="needle"),
        "two letters of 1 in 100,000": Filter(text="dl"),
        "a letter that nothing has": Filter(text="z"),
        "a label and a base model, 1 in 20": Filter(labels={"team": "t7"}, base_model="baseModels/m3"),
        "a label and a base model that never meet": Filter(labels={"team": "t7"}, base_model="baseModels/m1"),
        "a label and a text that never meet": Filter(labels={"team": "t7"}, text="support"),
        "a state and a text that never meet": Filter(states=[Task.FAILED], text="support"),
    }
    return {name: api.ListTasksRequest(filter=wanted, include_totals=True) for name, wanted in filters.items()}


async def print_pages(pool: Pool, queue: TaskQueue) -> None:
    """Pages of 50, first ones and ones far behind; totals beside them."""
    fleet = Fleet()
    fleet.tell(Trainers([Machine("bench:1", 2, 0)]))
    pages = TaskPages(TaskListing(pool), Outlook(queue, fleet, utc_now))
    print("| pages of 50 | p50, ms | p99, ms | processor, ms |\n|---|---|---|---|")
    for name, request in requests().items():
        await print_latency(pool, name, lambda request=request: pages.page(request))  # type: ignore[misc]
    deep = api.ListTasksRequest(page_token=await _deep_token(pages))
    await print_latency(pool, "everything, 50,000 tasks behind", lambda: pages.page(deep))
    print("\n| pages of 50 with totals | p50, ms | p99, ms | processor, ms |\n|---|---|---|---|")
    for name, request in counted().items():
        await print_latency(pool, f"{name}: {await _told(pages, request)}", lambda request=request: pages.page(request))  # type: ignore[misc]


async def _told(pages: TaskPages, request: api.ListTasksRequest) -> str:
    totals = (await pages.page(request)).totals
    return ", ".join(f"{total.task_count:,}{'+' * total.at_least}" for total in totals) or "none"


async def _deep_token(pages: TaskPages) -> str:
    token = ""
    for _ in range(50):
        token = (await pages.page(api.ListTasksRequest(page_size=1000, page_token=token))).next_page_token
    return token


async def print_latency(pool: Pool, name: str, call: Callable[[], Awaitable[object]]) -> None:
    """Up to 200 calls one after the other, or as many as 10 seconds hold."""
    await call()
    taken: list[float] = []
    begun, before = time.perf_counter(), await spent(pool)
    while len(taken) < _PAGES and time.perf_counter() - begun < _SECONDS:
        started = time.perf_counter()
        await call()
        taken.append(1000 * (time.perf_counter() - started))
    processor = 1000 * (await spent(pool) - before) / len(taken)
    taken.sort()
    print(f"| {name} | {taken[len(taken) // 2]:.1f} | {taken[int(len(taken) * 0.99)]:.1f} | {processor:.1f} |", flush=True)


async def print_claims(pool: Pool, queue: TaskQueue) -> list[Assignment]:
    """Decide and claim, as the dispatcher does, with endless room."""
    claimed: list[Assignment] = []
    started, before, looks = time.perf_counter(), await spent(pool), 0
    while time.perf_counter() - started < _SECONDS:
        view = await queue.look([Machine("m", 2, 2)])
        looks += 1
        chosen = list(decide(view.waiting, [_ROOMY], (), utc_now()).starts)
        for first in range(0, len(chosen), 20):
            claimed += await queue.claim(chosen[first : first + 20], _ROOMY)
    rate = len(claimed) / (time.perf_counter() - started)
    processor = 1000 * (await spent(pool) - before) / len(claimed)
    print(f"\nclaims: {rate:.0f} a second, {processor:.1f} ms of processor each ({looks} rounds)", flush=True)
    return claimed


async def print_replay(pool: Pool, assignment: Assignment) -> None:
    """A stream of 100,000 points from its beginning, until the message before the reader waits."""
    hub = Hub()
    log = EventLog(pool, hub)
    for after in range(0, _REPLAYED, 500):
        await log.append(assignment.claim, after, points(after, 500), None)
    watch = Watch(log, hub, asyncio.Event(), heartbeat_interval=60, poll_interval=60, now=utc_now)
    started, before, events, size = time.perf_counter(), await spent(pool), 0, 0
    async for item in watch.follow(assignment.claim.task_id, 0, lambda _: True):
        message = watch_response(item)
        events += len(message.events)
        size += len(message.SerializeToString())
        if events >= _REPLAYED:
            break
    elapsed, processor = time.perf_counter() - started, await spent(pool) - before
    print(f"replay: {events:,} events, {size / 1e6:.0f} MB, in {elapsed:.1f} s, {processor:.1f} s of processor")


if __name__ == "__main__":
    main()
