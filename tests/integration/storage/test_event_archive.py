"""The archive of events over Postgres and S3, asked as the task manager asks."""

import asyncio
import datetime
import io
import uuid
from collections.abc import Awaitable, Callable

import grpc
import pytest
from unit.storage.service import Service, sha256

from services.common.errors import InvalidArgument, ServiceError, Unavailable
from services.common.postgres import Pool, transaction
from services.storage.object_store import MinioObjectStore
from services.storage.registration import Repositories
from services.storage.sweeper import Sweeper
from services.task_manager.archive_grpc import GrpcArchive

pytestmark = pytest.mark.integration

TASK, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)
ONE, TWO = b"one" * 1000, b"two" * 1000


@pytest.fixture
def archive(service: Service) -> GrpcArchive:
    return GrpcArchive(service.channel)


async def objects(store: MinioObjectStore) -> int:
    return len(await store.list("events/"))


async def pending(pool: Pool) -> int:
    async with transaction(pool) as connection:
        return len(await (await connection.execute("SELECT FROM storage.pending_object")).fetchall())


async def test_segments_are_kept_per_task_and_repeats_change_nothing(
    archive: GrpcArchive, store: MinioObjectStore, pool: Pool
) -> None:
    for task, content in ((TASK, ONE), (TASK, TWO), (OTHER, ONE), (TASK, ONE)):
        await archive.put_segment(task, sha256(content), content)

    assert [await archive.segment(TASK, sha256(content)) for content in (ONE, TWO)] == [ONE, TWO]
    assert await archive.segment(OTHER, sha256(ONE)) == ONE
    assert (await objects(store), await pending(pool)) == (3, 0)


async def test_the_same_segment_many_times_at_once_is_one(archive: GrpcArchive, store: MinioObjectStore, pool: Pool) -> None:
    await asyncio.gather(*(archive.put_segment(TASK, sha256(ONE), ONE) for _ in range(6)))

    assert (await objects(store), await pending(pool)) == (1, 0)


async def test_a_task_is_forgotten_with_its_bytes_and_no_other(
    archive: GrpcArchive, store: MinioObjectStore, repositories: Repositories
) -> None:
    await archive.put_segment(TASK, sha256(ONE), ONE)
    await archive.put_segment(OTHER, sha256(ONE), ONE)

    for _ in range(2):
        await archive.forget_segments(TASK)
    await Sweeper(repositories.sweeps, repositories.pending, store, limit=100).sweep(dry_run=False)

    with pytest.raises(ServiceError) as caught:
        await archive.segment(TASK, sha256(ONE))
    assert caught.value.reason == "FILE_NOT_FOUND"
    assert await archive.segment(OTHER, sha256(ONE)) == ONE
    assert await objects(store) == 1


async def test_they_outlive_the_retention_of_artifacts(
    archive: GrpcArchive,
    store: MinioObjectStore,
    repositories: Repositories,
    advance: Callable[[datetime.timedelta], Awaitable[None]],
) -> None:
    await archive.put_segment(TASK, sha256(ONE), ONE)

    await advance(datetime.timedelta(days=400))
    await Sweeper(repositories.sweeps, repositories.pending, store, limit=100).sweep(dry_run=False)

    assert await archive.segment(TASK, sha256(ONE)) == ONE


async def test_damage_is_refused_on_the_way_in_and_out(archive: GrpcArchive, store: MinioObjectStore) -> None:
    with pytest.raises(ServiceError) as caught:
        await archive.put_segment(TASK, sha256(ONE), TWO)
    assert caught.value.reason == "CHECKSUM_MISMATCH"
    await archive.put_segment(TASK, sha256(ONE), ONE)

    (found,) = await store.list("events/")
    await store.put(found.key, io.BytesIO(TWO), len(TWO))
    with pytest.raises(ServiceError) as caught:
        await archive.segment(TASK, sha256(ONE))
    assert caught.value.reason == "FILE_DAMAGED"


@pytest.mark.parametrize(("name", "content"), [("short", ONE), ("A" * 64, ONE), (sha256(b""), b"")])
async def test_bad_requests_name_the_field(archive: GrpcArchive, name: str, content: bytes) -> None:
    with pytest.raises(ServiceError) as caught:
        await archive.put_segment(TASK, name, content)

    assert caught.value.reason == InvalidArgument().reason
    assert [violation.field for violation in caught.value.violations] == ["sha256" if content else "content"]


async def test_a_storage_service_that_is_away_is_named() -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        with pytest.raises(Unavailable) as caught:
            await GrpcArchive(channel, deadline=2).segment(TASK, sha256(ONE))

    assert caught.value.reason == "STORAGE_UNAVAILABLE"
