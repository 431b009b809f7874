"""Starts the storage service: settings, Postgres, S3, servicers, server."""

import asyncio
import concurrent.futures
import os
import pathlib
import sys
import uuid

import grpc
import psycopg

from services.common import config, logs
from services.common.errors import ServiceError
from services.common.postgres import MigrationError, Pool, migrate, open_pool
from services.common.server import serving, wait_for_signal
from services.storage.artifact_repository import PostgresArtifactRepository
from services.storage.base_model_repository import PostgresBaseModelRepository
from services.storage.blob_repository import PostgresBlobRepository
from services.storage.dataset_repository import PostgresDatasetRepository
from services.storage.object_store import MinioObjectStore, ObjectStore
from services.storage.registration import NAMES, Repositories, register
from services.storage.registry_repository import PostgresRegistryRepository
from services.storage.settings import StorageSettings
from services.storage.startup import wait_for
from services.storage.sweep_repository import PostgresSweepRepository
from services.storage.sweeper import Sweeper

_MIGRATIONS = pathlib.Path(__file__).with_name("migrations")
# Every transfer holds a thread while it waits for S3 or the disk; a few stalled ones must not stop the others.
_THREADS = 32


def main() -> int:
    """Runs until SIGTERM or SIGINT; returns the exit code."""
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
    store = MinioObjectStore(
        settings.s3_endpoint,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        bucket=settings.s3_bucket,
        region=settings.s3_region,
    )
    stop = asyncio.create_task(wait_for_signal(), name="signal")
    preparation = asyncio.create_task(_prepare(settings, store), name="preparation")
    await asyncio.wait([stop, preparation], return_when=asyncio.FIRST_COMPLETED)
    if stop.done():
        preparation.cancel()
        return
    preparation.result()
    await _serve(settings, store, stop)


async def _prepare(settings: StorageSettings, store: ObjectStore) -> None:
    timeout = settings.start_timeout.total_seconds()
    await wait_for(lambda: migrate(settings.postgres_dsn, "storage", _MIGRATIONS), "postgres", timeout=timeout)
    await wait_for(store.prepare, "s3", timeout=timeout)


async def _serve(settings: StorageSettings, store: ObjectStore, stop: "asyncio.Task[object]") -> None:
    async with open_pool(settings.postgres_dsn, application="tunesmith-storage") as pool:
        repositories = _repositories(pool, settings)
        sweeper = Sweeper(repositories.sweeps, store, limit=settings.sweep_limit, dry_run=settings.sweep_dry_run)

        def add_servicers(server: grpc.aio.Server) -> None:
            register(server, repositories, store, uuid.uuid4, sweeper)

        async with serving(settings, add_servicers, NAMES), asyncio.TaskGroup() as tasks:
            sweeps = tasks.create_task(sweeper.run(settings.sweep_interval.total_seconds()), name="sweeper")
            await stop
            sweeps.cancel()


def _repositories(pool: Pool, settings: StorageSettings) -> Repositories:
    return Repositories(
        datasets=PostgresDatasetRepository(pool),
        artifacts=PostgresArtifactRepository(pool, settings.retention_policy),
        models=PostgresBaseModelRepository(pool),
        blobs=PostgresBlobRepository(pool),
        sweeps=PostgresSweepRepository(pool, settings.retention_policy),
        registry=PostgresRegistryRepository(pool, settings.retention_policy),
    )


def _failed(error: Exception, code: int) -> int:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201 - the log may not be set up yet
    return code


if __name__ == "__main__":
    sys.exit(main())
