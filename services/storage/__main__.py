"""Starts the storage service: settings, Postgres, S3, servicers, server."""

import asyncio
import concurrent.futures
import contextlib
import os
import pathlib
import sys
import tempfile
from collections.abc import AsyncIterator

import grpc
import psycopg

from services.common import config, heap, logs
from services.common.channels import connect
from services.common.errors import ServiceError
from services.common.postgres import MigrationError, Pool, migrate, open_pool
from services.common.server import serving, wait_for_signal
from services.storage.artifact_repository import PostgresArtifactRepository
from services.storage.base_model_files import BaseModelFiles
from services.storage.base_model_repository import PostgresBaseModelRepository
from services.storage.blob_repository import PostgresBlobRepository
from services.storage.dataset_expiry import DatasetExpiry
from services.storage.dataset_repository import PostgresDatasetRepository
from services.storage.event_segment_repository import PostgresEventSegmentRepository
from services.storage.live_tasks import GrpcLiveTasks, LiveTasks, NoTasks
from services.storage.notice_repository import PostgresNoticeRepository
from services.storage.object_store import MinioObjectStore, ObjectStore
from services.storage.part_upload_repository import PostgresPartUploadRepository
from services.storage.pending_object_repository import PostgresPendingObjectRepository
from services.storage.process_checker import start_checker
from services.storage.registration import NAMES, SLOW_METHODS, Repositories, Surroundings, dataset_deletion, register
from services.storage.registry_repository import PostgresRegistryRepository
from services.storage.scrub_repository import PostgresScrubRepository
from services.storage.scrubber import Scrubber
from services.storage.server_directory import ServerDirectory
from services.storage.server_place import ServerPlace
from services.storage.server_prefix import ServerPrefix
from services.storage.settings import StorageSettings
from services.storage.startup import wait_for
from services.storage.sweep_repository import PostgresSweepRepository
from services.storage.sweeper import Sweeper
from services.storage.token_statistics_repository import PostgresTokenStatisticsRepository
from services.storage.tokens.client import TokenWorker

_MIGRATIONS = pathlib.Path(__file__).with_name("migrations")
# Every transfer holds a thread while it waits for S3 or the disk; a few stalled ones must not stop the others.
_THREADS = 32


def main() -> int:
    """Runs until SIGTERM or SIGINT; returns the exit code."""
    # Blocks up to more than the largest message that gRPC takes.
    heap.keep_freed_memory(kept_bytes=32 * 2**20, block_bytes=8 * 2**20, arenas=2)
    try:
        settings = config.load(StorageSettings, "TUNESMITH_STORAGE_", os.environ)
        logs.configure("storage", settings.log_level)
        asyncio.run(run(settings))
    except config.ConfigError as error:
        return _failed(error, 2)
    except (psycopg.OperationalError, MigrationError, ServiceError) as error:
        return _failed(error, 1)
    return 0


async def run(settings: StorageSettings) -> None:
    """Serves from the moment Postgres and S3 are ready until a signal comes; a signal ends the wait for them, too."""
    asyncio.get_running_loop().set_default_executor(concurrent.futures.ThreadPoolExecutor(_THREADS, "blocking"))
    store = _object_store(settings, settings.s3_bucket)
    stop = asyncio.create_task(wait_for_signal(), name="signal")
    preparation = asyncio.create_task(_prepare(settings, store), name="preparation")
    await asyncio.wait([stop, preparation], return_when=asyncio.FIRST_COMPLETED)
    if stop.done():
        preparation.cancel()
        return
    preparation.result()
    await _serve(settings, store, stop)


def _object_store(settings: StorageSettings, bucket: str) -> MinioObjectStore:
    return MinioObjectStore(
        settings.s3_endpoint,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        bucket=bucket,
        region=settings.s3_region,
        public_endpoint=settings.public_s3,
    )


def _server_places(settings: StorageSettings) -> dict[str, ServerPlace]:
    places: dict[str, ServerPlace] = {}
    if settings.import_root:
        places["directory"] = ServerDirectory(settings.import_root)
    if settings.import_s3:
        bucket, prefix = settings.import_bucket_and_prefix
        places["s3_prefix"] = ServerPrefix(_object_store(settings, bucket), prefix)
    return places


async def _prepare(settings: StorageSettings, store: MinioObjectStore) -> None:
    timeout = settings.start_timeout.total_seconds()
    await wait_for(lambda: migrate(settings.postgres_dsn, "storage", _MIGRATIONS), "postgres", timeout=timeout)
    await wait_for(store.prepare, "s3", timeout=timeout)
    await wait_for(store.probe, "s3", timeout=timeout)


async def _serve(settings: StorageSettings, store: ObjectStore, stop: "asyncio.Task[object]") -> None:
    async with (
        open_pool(settings.postgres_dsn, application="tunesmith-storage") as pool,
        _live_tasks(settings) as tasks,
        _small_files_dir(settings) as small_files,
    ):
        repositories = _repositories(pool, settings)
        sweeper = Sweeper(
            repositories.sweeps,
            repositories.pending,
            store,
            limit=settings.sweep_limit,
            dry_run=settings.sweep_dry_run,
            tasks=tasks,
        )
        around = Surroundings(
            store=store,
            sweeper=sweeper,
            start_checker=start_checker,
            tokens=TokenWorker(processes=settings.analyses),
            small_files=BaseModelFiles(store, small_files),
            tasks=tasks,
            upload_lifetime=settings.upload_lifetime,
            scrub_interval=settings.scrub_interval,
            analyses=settings.analyses,
            server_places=_server_places(settings),
        )

        expiry = DatasetExpiry(repositories.datasets, dataset_deletion(repositories, around), limit=settings.sweep_limit)

        def add_servicers(server: grpc.aio.Server) -> None:
            register(server, repositories, around)

        async with serving(settings, add_servicers, NAMES, slow_methods=SLOW_METHODS), asyncio.TaskGroup() as group:
            loops = [group.create_task(loop.run(settings.sweep_interval)) for loop in (sweeper, expiry)]
            loops.append(group.create_task(_scrubber(repositories, store, settings).run(), name="scrubber"))
            await stop
            for loop in loops:
                loop.cancel()


def _scrubber(repositories: Repositories, store: ObjectStore, settings: StorageSettings) -> Scrubber:
    return Scrubber(
        repositories.scrubs, store, bytes_per_second=settings.scrub_bytes_per_second, interval=settings.scrub_interval
    )


@contextlib.asynccontextmanager
async def _live_tasks(settings: StorageSettings) -> AsyncIterator[LiveTasks]:
    if not settings.task_manager_address:
        yield NoTasks()
        return
    # The task manager starts after this service; the channel connects when somebody asks.
    async with connect(settings.task_manager_address, api_key=settings.peer_api_key) as channel:
        yield GrpcLiveTasks(channel, api_key=settings.peer_api_key)


@contextlib.asynccontextmanager
async def _small_files_dir(settings: StorageSettings) -> AsyncIterator[pathlib.Path]:
    if settings.cache_dir:
        yield settings.cache_dir
        return
    with tempfile.TemporaryDirectory(prefix="tunesmith-storage-") as directory:
        yield pathlib.Path(directory)


def _repositories(pool: Pool, settings: StorageSettings) -> Repositories:
    return Repositories(
        datasets=PostgresDatasetRepository(pool),
        artifacts=PostgresArtifactRepository(pool, settings.retention_policy),
        models=PostgresBaseModelRepository(pool),
        blobs=PostgresBlobRepository(pool),
        pending=PostgresPendingObjectRepository(pool),
        part_uploads=PostgresPartUploadRepository(pool, settings.upload_lifetime),
        token_statistics=PostgresTokenStatisticsRepository(pool),
        sweeps=PostgresSweepRepository(pool, settings.retention_policy, settings.upload_lifetime),
        registry=PostgresRegistryRepository(pool, settings.retention_policy),
        notices=PostgresNoticeRepository(pool),
        scrubs=PostgresScrubRepository(pool),
        segments=PostgresEventSegmentRepository(pool),
    )


def _failed(error: Exception, code: int) -> int:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201 - the log may not be set up yet
    return code


if __name__ == "__main__":
    sys.exit(main())
