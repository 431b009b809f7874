"""Postgres or S3 going away is told to callers as UNAVAILABLE, and the service recovers by itself."""

import asyncio
import urllib.parse
import uuid
from collections.abc import AsyncIterator

import grpc
import pytest
from embedded import S3
from integration.storage.conftest import postgres_repositories
from integration.storage.relay import Relay
from unit.storage.artifact_suite import until
from unit.storage.service import Service, dataset_messages, lines, reason_of, refused, row, running_service

from services.common.postgres import Pool, open_pool
from services.storage.object_store import MinioObjectStore
from services.storage.registration import Repositories
from tunesmith.v1 import dataset_service_pb2

pytestmark = pytest.mark.integration

CONTENT = lines(*(row("x" * 1000 + str(n)) for n in range(3000)))


@pytest.fixture
async def s3_relay(s3: S3) -> AsyncIterator[Relay]:
    async with Relay(s3.endpoint.removeprefix("http://")) as relay:
        yield relay


@pytest.fixture
async def behind_s3_relay(repositories: Repositories, s3: S3, s3_relay: Relay) -> AsyncIterator[Service]:
    store = MinioObjectStore(
        f"http://127.0.0.1:{s3_relay.port}", access_key=s3.access_key, secret_key=s3.secret_key, bucket=s3.bucket
    )
    await store.prepare()
    async with running_service(repositories, store, no_keys) as service:
        yield service


@pytest.fixture
async def postgres_relay(postgres_dsn: str) -> AsyncIterator[Relay]:
    address = urllib.parse.urlsplit(postgres_dsn)
    async with Relay(f"{address.hostname}:{address.port}") as relay:
        yield relay


@pytest.fixture
async def behind_postgres_relay(
    pool: Pool, postgres_dsn: str, store: MinioObjectStore, postgres_relay: Relay
) -> AsyncIterator[Service]:
    port = urllib.parse.urlsplit(postgres_dsn).port
    dsn = postgres_dsn.replace(f":{port}/", f":{postgres_relay.port}/")
    async with (
        open_pool(dsn, application="test") as relayed,
        running_service(postgres_repositories(relayed), store, no_keys) as service,
    ):
        yield service


async def no_keys() -> set[str]:
    return set()


async def test_without_s3_bytes_are_unavailable_and_facts_are_not(behind_s3_relay: Service, s3_relay: Relay) -> None:
    dataset = await behind_s3_relay.upload(CONTENT)
    await s3_relay.cut()
    async with refused("OBJECT_STORE_UNAVAILABLE") as refusal:
        await behind_s3_relay.download(dataset.name)
    assert refusal.code == grpc.StatusCode.UNAVAILABLE
    async with refused("OBJECT_STORE_UNAVAILABLE"):
        await behind_s3_relay.upload(lines(row()), request_id=str(uuid.UUID(int=1)))
    listed = await behind_s3_relay.datasets.ListDatasets(dataset_service_pb2.ListDatasetsRequest())
    assert list(listed.datasets) == [dataset]
    await s3_relay.restore()
    assert await behind_s3_relay.download(dataset.name) == CONTENT
    assert (await behind_s3_relay.upload(lines(row()), request_id=str(uuid.UUID(int=1)))).name


async def test_a_download_that_s3_breaks_off_ends_unavailable_and_resumes_by_offset(
    behind_s3_relay: Service, s3_relay: Relay
) -> None:
    content = CONTENT * 30
    dataset = await behind_s3_relay.upload(content)
    received = bytearray()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for response in behind_s3_relay.datasets.DownloadDataset(
            dataset_service_pb2.DownloadDatasetRequest(name=dataset.name)
        ):
            if not received:
                await s3_relay.cut()
            received += response.chunk
    assert reason_of(caught.value) == "OBJECT_STORE_UNAVAILABLE"
    assert 0 < len(received) < len(content)
    await s3_relay.restore()
    assert bytes(received) + await behind_s3_relay.download(dataset.name, len(received)) == content


async def test_without_postgres_everything_is_unavailable_until_it_is_back(
    behind_postgres_relay: Service, postgres_relay: Relay
) -> None:
    service = behind_postgres_relay
    dataset = await service.upload(CONTENT)
    await postgres_relay.cut()
    async with refused("POSTGRES_UNAVAILABLE") as refusal:
        await service.download(dataset.name)
    assert refusal.code == grpc.StatusCode.UNAVAILABLE
    async with refused("POSTGRES_UNAVAILABLE"):
        await service.upload(lines(row()))
    await postgres_relay.restore()

    async def back() -> bool:
        try:
            return await service.download(dataset.name) == CONTENT
        except grpc.aio.AioRpcError as error:
            if reason_of(error) != "POSTGRES_UNAVAILABLE":
                raise
            return False

    await until(back, seconds=60)


async def test_postgres_lost_at_the_commit_never_leaves_a_row_without_bytes(
    behind_postgres_relay: Service, postgres_relay: Relay, service: Service
) -> None:
    call = behind_postgres_relay.datasets.UploadDataset()
    for message in dataset_messages(CONTENT, display_name="rows"):
        await call.write(message)
    await postgres_relay.cut()
    await call.done_writing()
    async with refused("POSTGRES_UNAVAILABLE"):
        await call
    listed = await service.datasets.ListDatasets(dataset_service_pb2.ListDatasetsRequest())
    downloads = await asyncio.gather(*(service.download(dataset.name) for dataset in listed.datasets))
    assert all(content == CONTENT for content in downloads)
