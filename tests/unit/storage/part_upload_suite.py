"""What DatasetService promises of uploads in parts; run against the fakes and against Postgres and S3."""

import asyncio
import datetime
import uuid
from collections.abc import Awaitable, Callable

import grpc
import pytest
from unit.storage.dataset_suite import BAD
from unit.storage.dataset_version_suite import listed
from unit.storage.service import Service, lines, refused, row, sha256

from services.storage.part_upload import MIN_PART_BYTES
from tunesmith.v1 import dataset_pb2, dataset_service_pb2

SendPart = Callable[[str, bytes], Awaitable[None]]
BIG = lines(*(row(f"{number}" + "x" * 4000) for number in range(2300)))


async def begin(service: Service, content: bytes, **header: object) -> dataset_service_pb2.DatasetUpload:
    header = dataset_service_pb2.DatasetHeader(**{"display_name": "rows"} | header)
    return await service.datasets.CreateDatasetUpload(
        dataset_service_pb2.CreateDatasetUploadRequest(header=header, size_bytes=len(content))
    )


async def send(upload: dataset_service_pb2.DatasetUpload, content: bytes, send_part: SendPart) -> None:
    parts = (send_part(part.url, content[part.offset : part.offset + part.size_bytes]) for part in upload.parts)
    await asyncio.gather(*parts)


async def complete(service: Service, upload: dataset_service_pb2.DatasetUpload) -> dataset_pb2.Dataset:
    request = dataset_service_pb2.CompleteDatasetUploadRequest(name=upload.name)
    return await service.datasets.CompleteDatasetUpload(request)


async def abort(service: Service, name: str) -> None:
    await service.datasets.AbortDatasetUpload(dataset_service_pb2.AbortDatasetUploadRequest(name=name))


class PartUploadSuite:
    """Tests take the fixtures `service` and `send_part`, which does what a caller does with a part's URL."""

    async def test_a_dataset_of_parts_ends_when_its_header_says(self, service: Service, send_part: SendPart) -> None:
        upload = await begin(service, BIG, lifetime_seconds=3600)
        await send(upload, BIG, send_part)
        dataset = await complete(service, upload)
        assert 3590 < dataset.expire_time.seconds - dataset.create_time.seconds < 3610

    async def test_the_parts_make_the_dataset(self, service: Service, send_part: SendPart) -> None:
        upload = await begin(service, BIG)
        assert [part.number for part in upload.parts] == [1, 2]
        assert upload.parts[0].size_bytes == upload.parts[1].offset == MIN_PART_BYTES
        await send(upload, BIG, send_part)
        dataset = await complete(service, upload)
        assert not dataset.HasField("expire_time")
        assert (dataset.size_bytes, dataset.sha256, dataset.version) == (len(BIG), sha256(BIG), 1)
        assert await service.download(dataset.name) == BIG
        assert len(await service.keys()) == 1

    async def test_it_ends_after_a_day(self, service: Service) -> None:
        expire_time = (await begin(service, BIG)).expire_time.ToDatetime(datetime.UTC)
        first = (await service.upload(lines(row()))).create_time.ToDatetime(datetime.UTC)
        assert abs(expire_time - first - datetime.timedelta(hours=24)) < datetime.timedelta(minutes=5)

    async def test_rows_left_out_are_stored_beside_it(self, service: Service, send_part: SendPart) -> None:
        content = lines(row("a"), BAD)
        upload = await begin(service, content, max_invalid_rows=1)
        await send(upload, content, send_part)
        dataset = await complete(service, upload)
        assert dataset.dropped_row_count == 1
        rows = dataset_service_pb2.DownloadDatasetRequest.ROWS
        assert await service.download(dataset.name, content=rows) == lines(row("a"))
        assert len(await service.keys()) == 3

    async def test_a_repeat_returns_the_dataset_again(self, service: Service, send_part: SendPart) -> None:
        upload = await begin(service, BIG)
        await send(upload, BIG, send_part)
        first = await complete(service, upload)
        assert await complete(service, upload) == first
        assert service.checkers.started == 1

    async def test_two_at_once_make_one_dataset(self, service: Service, send_part: SendPart) -> None:
        upload = await begin(service, BIG)
        await send(upload, BIG, send_part)
        first, second = await asyncio.gather(complete(service, upload), complete(service, upload))
        assert first == second
        assert await listed(service) == [first]
        assert len(await service.keys()) == 1

    async def test_content_that_is_known_is_not_stored_again(self, service: Service, send_part: SendPart) -> None:
        known = await service.upload(BIG)
        upload = await begin(service, BIG)
        await send(upload, BIG, send_part)
        assert await complete(service, upload) == known
        assert len(await service.keys()) == 1

    async def test_missing_parts_are_named_and_may_be_sent_later(self, service: Service, send_part: SendPart) -> None:
        upload = await begin(service, BIG)
        async with refused("UPLOAD_INCOMPLETE") as refusal:
            await complete(service, upload)
        assert refusal.metadata["missing_parts"] == "1, 2"
        await send_part(upload.parts[1].url, BIG[upload.parts[1].offset :])
        async with refused("UPLOAD_INCOMPLETE") as refusal:
            await complete(service, upload)
        assert refusal.metadata["missing_parts"] == "1"
        assert refusal.code == grpc.StatusCode.FAILED_PRECONDITION
        await send(upload, BIG, send_part)
        assert (await complete(service, upload)).sha256 == sha256(BIG)

    async def test_a_part_of_another_size_counts_as_missing(self, service: Service, send_part: SendPart) -> None:
        content = lines(row())
        upload = await begin(service, content)
        await send_part(upload.parts[0].url, content[:-1])
        async with refused("UPLOAD_INCOMPLETE"):
            await complete(service, upload)

    @pytest.mark.parametrize(
        ("content", "header", "reason"),
        [
            (lines(row(), BAD), {}, "DATASET_INVALID"),
            (lines(row()), {"sha256": "0" * 64}, "CHECKSUM_MISMATCH"),
        ],
    )
    async def test_a_file_that_is_refused_is_removed(
        self, service: Service, send_part: SendPart, content: bytes, header: dict[str, object], reason: str
    ) -> None:
        upload = await begin(service, content, **header)
        await send(upload, content, send_part)
        async with refused(reason):
            await complete(service, upload)
        async with refused("UPLOAD_NOT_FOUND"):
            await complete(service, upload)
        assert await service.keys() == set()

    async def test_a_checker_that_dies_leaves_the_upload_to_be_completed(self, service: Service, send_part: SendPart) -> None:
        upload = await begin(service, BIG)
        await send(upload, BIG, send_part)
        service.checkers.broken = True
        async with refused("CHECKER_FAILED"):
            await complete(service, upload)
        service.checkers.broken = False
        assert (await complete(service, upload)).sha256 == sha256(BIG)

    async def test_an_upload_that_was_ended_is_gone(self, service: Service, send_part: SendPart) -> None:
        upload = await begin(service, BIG)
        await send_part(upload.parts[0].url, BIG[:MIN_PART_BYTES])
        await abort(service, upload.name)
        await abort(service, upload.name)
        async with refused("UPLOAD_NOT_FOUND"):
            await complete(service, upload)
        await abort(service, f"datasetUploads/{uuid.UUID(int=9)}")
        assert await service.keys() == set()

    async def test_ending_a_completed_upload_does_not_touch_the_dataset(self, service: Service, send_part: SendPart) -> None:
        upload = await begin(service, BIG)
        await send(upload, BIG, send_part)
        dataset = await complete(service, upload)
        await abort(service, upload.name)
        assert await service.download(dataset.name) == BIG

    async def test_an_upload_of_a_deleted_dataset_says_so(self, service: Service, send_part: SendPart) -> None:
        upload = await begin(service, BIG)
        await send(upload, BIG, send_part)
        await service.delete((await complete(service, upload)).name)
        async with refused("DATASET_NOT_FOUND"):
            await complete(service, upload)
        assert await service.keys() == set()

    async def test_a_request_id_holds_for_parts_too(self, service: Service, send_part: SendPart) -> None:
        request_id = str(uuid.uuid4())
        await service.upload(lines(row("other")), request_id=request_id)
        upload = await begin(service, BIG, request_id=request_id)
        await send(upload, BIG, send_part)
        async with refused("REQUEST_ID_REUSED"):
            await complete(service, upload)
        assert len(await service.keys()) == 1

    @pytest.mark.parametrize("size", [0, -1, 160 * 10**9 + 1])
    async def test_a_size_out_of_bounds_is_refused(self, service: Service, size: int) -> None:
        header = dataset_service_pb2.DatasetHeader(display_name="")
        request = dataset_service_pb2.CreateDatasetUploadRequest(header=header, size_bytes=size)
        async with refused("INVALID_FIELD") as refusal:
            await service.datasets.CreateDatasetUpload(request)
        assert refusal.fields == ["header.display_name", "size_bytes"]

    async def test_the_largest_file_has_an_answer_that_every_client_takes(self, service: Service) -> None:
        header = dataset_service_pb2.DatasetHeader(display_name="big")
        request = dataset_service_pb2.CreateDatasetUploadRequest(header=header, size_bytes=160 * 10**9)
        upload = await service.datasets.CreateDatasetUpload(request)
        assert sum(part.size_bytes for part in upload.parts) == 160 * 10**9
        assert upload.ByteSize() < 2**20

    async def test_unknown_and_malformed_names_are_told_apart(self, service: Service) -> None:
        async with refused("UPLOAD_NOT_FOUND") as refusal:
            await complete(service, dataset_service_pb2.DatasetUpload(name=f"datasetUploads/{uuid.UUID(int=9)}"))
        assert refusal.code == grpc.StatusCode.NOT_FOUND
        async with refused("INVALID_NAME"):
            await abort(service, "datasets/x")
