"""Wires the task manager together and runs it until a signal: python -m services.task_manager."""

import asyncio
import contextlib
import functools
import os
import pathlib
import sys
import time
import uuid
from collections.abc import AsyncIterator

import psycopg
import structlog

from services.common import logs
from services.common.channels import connect
from services.common.config import ConfigError, load
from services.common.postgres import MigrationError, migrate, open_pool
from services.common.server import serving, wait_for_signal
from services.task_manager.checkpoints import Checkpoints
from services.task_manager.claims import ClaimRepository
from services.task_manager.creation import Patience, TaskCreation
from services.task_manager.dispatcher import Dispatcher
from services.task_manager.event_log import EventLog
from services.task_manager.fleet import Fleet
from services.task_manager.history import History
from services.task_manager.hub import Hub
from services.task_manager.inquiry import Inquiry
from services.task_manager.origins import Origins
from services.task_manager.outlook import Outlook
from services.task_manager.planning import Planning
from services.task_manager.repository import TaskRepository
from services.task_manager.retry_repository import RetryRepository
from services.task_manager.retrying import Retrying
from services.task_manager.run_speeds import RunSpeeds
from services.task_manager.servicer import TaskManagerServicer, utc_now
from services.task_manager.settings import TaskManagerSettings
from services.task_manager.storage_grpc import GrpcStorage
from services.task_manager.task_comparison import TaskComparison
from services.task_manager.task_listing import TaskListing
from services.task_manager.task_pages import TaskPages
from services.task_manager.task_queue import TaskQueue
from services.task_manager.task_watch import TaskWatch
from services.task_manager.totals import TaskTotals
from services.task_manager.trainer_grpc import GrpcTrainers
from services.task_manager.watch import Watch
from tunesmith.v1 import task_manager_service_pb2_grpc

SERVICE = "tunesmith.v1.TaskManagerService"
_MIGRATIONS = pathlib.Path(__file__).parent / "migrations"

log = structlog.get_logger()


def main() -> None:
    """Exit codes: 0 after a signal, 1 when the database cannot be used, 2 for bad settings."""
    try:
        settings = load(TaskManagerSettings, "TUNESMITH_TASK_MANAGER_", os.environ)
        logs.configure("task_manager", settings.log_level)
        asyncio.run(run(settings))
    except ConfigError as error:
        sys.exit(_refuse(error, 2))
    except (MigrationError, psycopg.Error) as error:
        sys.exit(_refuse(error, 1))


async def run(settings: TaskManagerSettings) -> None:
    """Serves and dispatches until SIGTERM or SIGINT."""
    async with running(settings):
        signal = await wait_for_signal()
        log.info("service.stopping", signal=signal.name)


@contextlib.asynccontextmanager
async def running(settings: TaskManagerSettings) -> AsyncIterator[None]:
    """Serves and dispatches inside the block; leaving it ends the streams with their cursors and gives up the leases."""
    await prepare_database(settings)
    # An id that nobody had before: a claim of an earlier process is never taken for one of this.
    owner = uuid.uuid4()
    hub, fleet, stopping = Hub(), Fleet(), asyncio.Event()
    async with (
        open_pool(
            settings.postgres_dsn, application="task_manager", max_size=settings.pool_size, idle_limit=settings.lease
        ) as pool,
        connect(settings.storage_address, api_key=settings.peer_api_key) as storage,
        GrpcTrainers(api_key=settings.peer_api_key) as trainers,
    ):
        events = EventLog(pool, hub)
        watch = make_watch(settings, hub, events, stopping)
        repository, stored = TaskRepository(pool, hub), GrpcStorage(storage, api_key=settings.peer_api_key)
        inquiry, origins = Inquiry(stored), Origins(stored, repository)
        planning = Planning(inquiry, stored, RunSpeeds(pool), [trainers.at(address) for address in settings.trainer_addresses])
        listing = TaskListing(pool)
        queue = TaskQueue(pool, hub, owner=owner, lease=settings.lease)
        outlook = Outlook(queue, fleet, utc_now)
        servicer = TaskManagerServicer(
            repository,
            TaskCreation(
                repository=repository,
                inquiry=inquiry,
                planning=planning,
                origins=origins,
                patience=Patience(settings.create_token_wait.total_seconds(), settings.plan_token_wait.total_seconds()),
            ),
            pages=TaskPages(listing, outlook),
            history=History(events),
            watch=watch,
            task_watch=make_task_watch(settings, listing, stopping),
            retrying=Retrying(
                repository,
                RetryRepository(pool, hub, repository),
                inquiry,
                origins,
                stored,
                patience=settings.create_token_wait.total_seconds(),
            ),
            checkpoints=Checkpoints(repository, stored, trainers.at),
            outlook=outlook,
            comparison=TaskComparison(stored),
        )
        register = functools.partial(task_manager_service_pb2_grpc.add_TaskManagerServiceServicer_to_server, servicer)
        async with serving(settings, register, [SERVICE], stopping=stopping), asyncio.TaskGroup() as group:
            claims = ClaimRepository(pool, hub, owner=owner, lease=settings.lease)
            dispatcher = Dispatcher(
                queue=queue,
                claims=claims,
                events=events,
                totals=TaskTotals(pool),
                trainer_at=trainers.at,
                fleet=fleet,
                hub=hub,
                settings=settings,
            )
            dispatching = group.create_task(dispatcher.run(), name="dispatcher")
            yield
            dispatching.cancel()


def make_watch(settings: TaskManagerSettings, hub: Hub, events: EventLog, stopping: asyncio.Event) -> Watch:
    """What makes streams."""
    return Watch(
        events,
        hub,
        stopping,
        heartbeat_interval=settings.heartbeat_interval.total_seconds(),
        poll_interval=settings.watch_interval.total_seconds(),
        now=utc_now,
    )


def make_task_watch(settings: TaskManagerSettings, listing: TaskListing, stopping: asyncio.Event) -> TaskWatch:
    """What makes streams of many tasks."""
    return TaskWatch(
        listing,
        stopping,
        heartbeat_interval=settings.heartbeat_interval.total_seconds(),
        poll_interval=settings.watch_interval.total_seconds(),
    )


async def prepare_database(settings: TaskManagerSettings) -> None:
    """Waits for Postgres and migrates the schema; raises psycopg.OperationalError when it does not come, MigrationError."""
    deadline = time.monotonic() + settings.postgres_wait.total_seconds()
    while True:
        try:
            await migrate(settings.postgres_dsn, "task_manager", _MIGRATIONS)
            return
        except psycopg.OperationalError as error:
            if time.monotonic() >= deadline:
                raise
            log.warning("postgres.awaited", message=str(error).partition("\n")[0])
            await asyncio.sleep(0.5)


def _refuse(error: Exception, code: int) -> int:
    print(f"error: {error}".strip(), file=sys.stderr)  # noqa: T201
    return code


if __name__ == "__main__":
    main()
