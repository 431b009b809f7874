"""The service over real Postgres and real S3."""

# ruff: noqa: E402 - the asserts of the suites are rewritten before they are imported

import asyncio
import datetime
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable

import minio
import pytest

SUITES = (
    "artifact_suite",
    "dataset_suite",
    "model_suite",
    "object_store_suite",
    "repository_suite",
    "retention_suite",
    "service",
)
pytest.register_assert_rewrite(*(f"unit.storage.{name}" for name in SUITES))

from embedded import S3
from unit.storage.service import Service, running_service

from services import storage
from services.common.postgres import Pool, migrate, open_pool, transaction
from services.storage.artifact_repository import PostgresArtifactRepository
from services.storage.base_model_repository import PostgresBaseModelRepository
from services.storage.blob_repository import PostgresBlobRepository
from services.storage.dataset_repository import PostgresDatasetRepository
from services.storage.object_store import MinioObjectStore
from services.storage.registration import Repositories
from services.storage.registry_repository import PostgresRegistryRepository
from services.storage.retention import Policy
from services.storage.sweep_repository import PostgresSweepRepository

DEFAULT_POLICY = Policy()


@pytest.fixture
async def pool(postgres_dsn: str) -> AsyncIterator[Pool]:
    await migrate(postgres_dsn, "storage", pathlib.Path(storage.__file__).with_name("migrations"))
    async with open_pool(postgres_dsn, application="test") as pool:
        yield pool


@pytest.fixture
async def store(s3: S3) -> MinioObjectStore:
    store = MinioObjectStore(s3.endpoint, access_key=s3.access_key, secret_key=s3.secret_key, bucket=s3.bucket)
    await store.prepare()
    return store


@pytest.fixture
def policy() -> Policy:
    return DEFAULT_POLICY


@pytest.fixture
def repositories(pool: Pool, policy: Policy) -> Repositories:
    return postgres_repositories(pool, policy)


@pytest.fixture
def advance(pool: Pool) -> Callable[[datetime.timedelta], Awaitable[None]]:
    """Moves the clock of retention, forwards or backwards."""
    offset = datetime.timedelta(0)

    async def advance(by: datetime.timedelta) -> None:
        nonlocal offset
        offset += by
        body = f"SELECT now() + interval '{offset.total_seconds()} seconds'"
        async with transaction(pool) as connection:
            statement = f"CREATE OR REPLACE FUNCTION storage.clock() RETURNS timestamptz LANGUAGE sql STABLE AS $${body}$$"
            await connection.execute(statement)

    return advance


@pytest.fixture
def client(s3: S3) -> minio.Minio:
    """S3 as an onlooker sees it."""
    return minio.Minio(s3.endpoint.removeprefix("http://"), access_key=s3.access_key, secret_key=s3.secret_key, secure=False)


@pytest.fixture
async def service(repositories: Repositories, store: MinioObjectStore, client: minio.Minio, s3: S3) -> AsyncIterator[Service]:
    async def keys() -> set[str]:
        found = await asyncio.to_thread(lambda: list(client.list_objects(s3.bucket, recursive=True)))
        return {item.object_name for item in found}

    async with running_service(repositories, store, keys) as service:
        yield service


def postgres_repositories(pool: Pool, policy: Policy = DEFAULT_POLICY) -> Repositories:
    return Repositories(
        datasets=PostgresDatasetRepository(pool),
        artifacts=PostgresArtifactRepository(pool, policy),
        models=PostgresBaseModelRepository(pool),
        blobs=PostgresBlobRepository(pool),
        sweeps=PostgresSweepRepository(pool, policy),
        registry=PostgresRegistryRepository(pool, policy),
    )
