"""The service over real Postgres and real S3."""

import asyncio
import datetime
import pathlib
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import minio
import pytest
from embedded import S3, fresh_database, migrated_template
from unit.storage.server_import_suite import places_of
from unit.storage.service import Service, running_service

from services import storage
from services.common.postgres import Pool, open_pool, transaction
from services.storage.artifact_repository import PostgresArtifactRepository
from services.storage.base_model_repository import PostgresBaseModelRepository
from services.storage.blob_repository import PostgresBlobRepository
from services.storage.dataset_repository import PostgresDatasetRepository
from services.storage.event_segment_repository import PostgresEventSegmentRepository
from services.storage.notice_repository import PostgresNoticeRepository
from services.storage.object_store import MinioObjectStore
from services.storage.part_upload_repository import PostgresPartUploadRepository
from services.storage.pending_object_repository import PostgresPendingObjectRepository
from services.storage.registration import Repositories
from services.storage.registry_repository import PostgresRegistryRepository
from services.storage.retention import Policy
from services.storage.scrub_repository import PostgresScrubRepository
from services.storage.sweep_repository import PostgresSweepRepository
from services.storage.token_statistics_repository import PostgresTokenStatisticsRepository
from tunesmith.local.postgres import Cluster

DEFAULT_POLICY, DAY = Policy(), datetime.timedelta(hours=24)


@pytest.fixture(scope="session")
def template(postgres_server: Cluster) -> str:
    return migrated_template(postgres_server, storage)


@pytest.fixture
def postgres_dsn(postgres_server: Cluster, template: str) -> Iterator[str]:
    """URL of a fresh database with storage's tables."""
    with fresh_database(postgres_server, template) as dsn:
        yield dsn


@pytest.fixture
async def pool(postgres_dsn: str) -> AsyncIterator[Pool]:
    async with open_pool(postgres_dsn, application="test") as pool:
        yield pool


@pytest.fixture
async def store(s3: S3) -> MinioObjectStore:
    store = MinioObjectStore(
        s3.endpoint, access_key=s3.access_key, secret_key=s3.secret_key, bucket=s3.bucket, public_endpoint=s3.endpoint
    )
    await store.prepare()
    return store


@pytest.fixture
def policy() -> Policy:
    return DEFAULT_POLICY


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
def send_part() -> Callable[[str, bytes], Awaitable[None]]:
    """What a caller does with the URL of a part."""

    def put(url: str, content: bytes) -> None:
        with urllib.request.urlopen(urllib.request.Request(url, data=content, method="PUT"), timeout=60) as answer:
            assert answer.status == 200

    async def send(url: str, content: bytes) -> None:
        await asyncio.to_thread(put, url, content)

    return send


@pytest.fixture
def read_by_url() -> Callable[[str], Awaitable[bytes]]:
    """What a caller does with the URL of a file."""

    def get(url: str) -> bytes:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.read()

    async def read(url: str) -> bytes:
        return await asyncio.to_thread(get, url)

    return read


@pytest.fixture
def upload_lifetime() -> datetime.timedelta:
    return DAY


@pytest.fixture
def repositories(pool: Pool, policy: Policy, upload_lifetime: datetime.timedelta) -> Repositories:
    return postgres_repositories(pool, policy, upload_lifetime)


@pytest.fixture
def client(s3: S3) -> minio.Minio:
    """S3 as an onlooker sees it."""
    return minio.Minio(s3.endpoint.removeprefix("http://"), access_key=s3.access_key, secret_key=s3.secret_key, secure=False)


@pytest.fixture
async def service(
    repositories: Repositories, store: MinioObjectStore, client: minio.Minio, s3: S3, tmp_path: pathlib.Path
) -> AsyncIterator[Service]:
    async def keys() -> set[str]:
        found = await asyncio.to_thread(lambda: list(client.list_objects(s3.bucket, recursive=True)))
        return {item.object_name for item in found}

    async with running_service(repositories, store, keys, server_places=places_of(tmp_path, store)) as service:
        yield service


def postgres_repositories(pool: Pool, policy: Policy = DEFAULT_POLICY, upload_lifetime: datetime.timedelta = DAY) -> Repositories:
    return Repositories(
        datasets=PostgresDatasetRepository(pool),
        artifacts=PostgresArtifactRepository(pool, policy),
        models=PostgresBaseModelRepository(pool),
        blobs=PostgresBlobRepository(pool),
        pending=PostgresPendingObjectRepository(pool),
        part_uploads=PostgresPartUploadRepository(pool, upload_lifetime),
        token_statistics=PostgresTokenStatisticsRepository(pool),
        sweeps=PostgresSweepRepository(pool, policy, upload_lifetime),
        registry=PostgresRegistryRepository(pool, policy),
        notices=PostgresNoticeRepository(pool),
        scrubs=PostgresScrubRepository(pool),
        segments=PostgresEventSegmentRepository(pool),
    )
