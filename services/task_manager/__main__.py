"""Wires the task manager together and runs it until a signal: python -m services.task_manager."""

import asyncio
import contextlib
import functools
import os
import pathlib
import sys
import time
from collections.abc import AsyncIterator, Sequence

import grpc
import psycopg
import structlog

from services.common import logs
from services.common.channels import connect
from services.common.config import ConfigError, load
from services.common.postgres import MigrationError, Pool, migrate, open_pool
from services.common.server import serving, wait_for_signal
from services.task_manager.artifact_news import ArtifactNews
from services.task_manager.artifact_notices_grpc import GrpcArtifactNotices
from services.task_manager.domain.webhook import ARTIFACT_KINDS
from services.task_manager.repeating import repeat
from services.task_manager.servicer import utc_now
from services.task_manager.settings import TaskManagerSettings
from services.task_manager.trainer_grpc import GrpcTrainers
from services.task_manager.webhook_delivery import WebhookDelivery
from services.task_manager.webhook_events import WebhookEvents
from services.task_manager.wiring import Loop, Wiring
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
    async with (
        open_pool(
            settings.postgres_dsn, application="task_manager", max_size=settings.pool_size, idle_limit=settings.lease
        ) as pool,
        connect(settings.storage_address, api_key=settings.peer_api_key) as storage,
        GrpcTrainers(api_key=settings.peer_api_key, tls_ca=settings.trainer_authority()) as trainers,
    ):
        wiring = Wiring(settings, pool, storage, trainers)
        register = functools.partial(task_manager_service_pb2_grpc.add_TaskManagerServiceServicer_to_server, wiring.servicer())
        async with serving(settings, register, [SERVICE], stopping=wiring.stopping), asyncio.TaskGroup() as group:
            dispatching = group.create_task(wiring.dispatcher().run(), name="dispatcher")
            loops = [wiring.compaction(), *await webhook_loops(settings, pool, storage)]
            repeating = [group.create_task(repeat(*loop, asyncio.Event()), name=loop[0]) for loop in loops]
            yield
            for task in (dispatching, *repeating):
                task.cancel()


async def webhook_loops(settings: TaskManagerSettings, pool: Pool, storage: grpc.aio.Channel) -> Sequence[Loop]:
    """What delivers webhooks, if one is set; says to the database which events to write."""
    events, endpoint = WebhookEvents(pool), settings.webhook_endpoint()
    await events.configure(settings.webhook_kinds if endpoint else ())
    if endpoint is None:
        return []
    delivery = WebhookDelivery(events, endpoint, allow_private=settings.webhook_allow_private, now=utc_now)
    loops: list[Loop] = [("webhooks", delivery.round, settings.webhook_interval)]
    if set(settings.webhook_kinds) & set(ARTIFACT_KINDS):
        news = ArtifactNews(GrpcArtifactNotices(storage, api_key=settings.peer_api_key), events)
        loops.append(("artifact news", news.round, settings.webhook_artifact_interval))
    return loops


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
