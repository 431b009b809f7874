"""A storage service that is killed leaves nothing behind: the next one sweeps up."""

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable

import grpc
import minio
import pytest
from embedded import S3
from integration.storage.test_process import Start, start
from unit.storage.artifact_suite import until
from unit.storage.part_upload_suite import BIG, SendPart, begin, complete, send
from unit.storage.service import Service, artifact_messages, dataset_messages, lines, row, sha256

from tunesmith.v1 import dataset_service_pb2

pytestmark = pytest.mark.integration

__all__ = ["start"]

HASTE = {"TUNESMITH_STORAGE_UPLOAD_LIFETIME": "1s", "TUNESMITH_STORAGE_SWEEP_INTERVAL": "100ms"}
Left = Callable[[], Awaitable[set[str]]]


@pytest.fixture
def left(client: minio.Minio, s3: S3) -> Left:
    """Everything in the bucket: objects, and unfinished uploads in parts."""

    def look() -> set[str]:
        objects = {item.object_name for item in client.list_objects(s3.bucket, recursive=True)}
        return objects | {f"unfinished {item.object_name}" for item in client._list_multipart_uploads(s3.bucket).uploads}

    async def left() -> set[str]:
        return await asyncio.to_thread(look)

    return left


async def swept(start: Start, left: Left, keep: int = 0) -> None:
    """Waits until a new service has removed all but `keep` objects."""
    successor = start(**HASTE)
    await until(successor.answers, seconds=60)

    async def clean() -> bool:
        return len(await left()) == keep

    await until(clean, seconds=60)


async def test_killed_in_the_middle_of_an_upload_of_files(start: Start, left: Left) -> None:
    process = start()
    await until(process.answers, seconds=60)
    async with grpc.aio.insecure_channel(process.address) as channel:
        call = Service(channel, set).artifacts.UploadArtifact()
        for message in artifact_messages({"a.bin": b"whole", "b.bin": b"never whole"})[:-1]:
            await call.write(message)

        async def stored() -> bool:
            return bool(await left())

        await until(stored, seconds=60)
        process.process.kill()
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    assert len(await left()) == 1
    await swept(start, left)


async def test_killed_in_the_middle_of_a_dataset_neither_bytes_nor_checker_stay(start: Start, left: Left) -> None:
    process = start()
    await until(process.answers, seconds=60)
    async with grpc.aio.insecure_channel(process.address) as channel:
        call = Service(channel, set).datasets.UploadDataset()
        for message in dataset_messages(BIG, display_name="rows"):
            await call.write(message)

        async def checks() -> bool:
            return bool(await asyncio.to_thread(children, process.process.pid))

        await until(checks, seconds=60)
        (checker,) = await asyncio.to_thread(children, process.process.pid)
        process.process.kill()
        with pytest.raises(grpc.aio.AioRpcError):
            await call

    async def gone() -> bool:
        return not await asyncio.to_thread(runs, checker)

    await until(gone, seconds=60)
    assert await left() == set()


async def test_killed_between_any_two_steps_of_a_completion(start: Start, left: Left, send_part: SendPart) -> None:
    """The process is stopped at ever later moments of the same completion; in the end there is one dataset and one object."""
    process = start()
    await until(process.answers, seconds=60)
    async with grpc.aio.insecure_channel(process.address) as channel:
        upload = await begin(Service(channel, set), BIG)
    await send(upload, BIG, send_part)
    for delay in (0.0, 0.1, 0.3, 0.6, 1.0):
        async with grpc.aio.insecure_channel(process.address) as channel:
            call = asyncio.ensure_future(complete(Service(channel, set), upload))
            await asyncio.wait([call], timeout=delay)
            process.process.kill()
            await asyncio.wait([call])
            call.exception()
        await process.ended()
        process = start()
        await until(process.answers, seconds=60)
    async with grpc.aio.insecure_channel(process.address) as channel:
        service = Service(channel, set)
        dataset = await complete(service, upload)
        assert await complete(service, upload) == dataset
        assert dataset.sha256 == sha256(BIG)
        assert list((await service.datasets.ListDatasets(dataset_service_pb2.ListDatasetsRequest())).datasets) == [dataset]
        process.process.kill()
        await process.ended()
    await swept(start, left, keep=1)


async def test_an_upload_nobody_completes_is_swept(start: Start, left: Left, send_part: SendPart) -> None:
    process = start(TUNESMITH_STORAGE_UPLOAD_LIFETIME="1s", TUNESMITH_STORAGE_SWEEP_INTERVAL="1h")
    await until(process.answers, seconds=60)
    async with grpc.aio.insecure_channel(process.address) as channel:
        service = Service(channel, set)
        kept = await service.upload(lines(row()))
        upload = await begin(service, BIG)
        await send_part(upload.parts[0].url, BIG[: upload.parts[0].size_bytes])
        process.process.kill()
    assert len(await left()) == 2
    await swept(start, left, keep=1)
    assert kept.name


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    answer = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(answer.stdout.strip()) and not answer.stdout.startswith("Z")


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`."""
    answer = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(text) for text in answer.stdout.split() if int(text) != os.getpid()]
