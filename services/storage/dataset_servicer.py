"""DatasetService over gRPC: protos to domain values and back."""

# ruff: noqa: N802 - methods are named as in the protos

import uuid
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf import empty_pb2, timestamp_pb2
from grpc.aio import ServicerContext
from structlog.contextvars import bind_contextvars

from services.common.errors import Violation
from services.common.names import resource_uuid
from services.common.paging import page_size
from services.storage.dataset import Dataset, DatasetStatistics
from services.storage.dataset_repository import DatasetRepository
from services.storage.dataset_upload import DatasetHeader, DatasetUpload, check
from services.storage.file import is_sha256
from services.storage.object_store import ObjectStore
from services.storage.pending_objects import remove_quietly
from services.storage.position import Position, decode_position, encode_position
from services.storage.request_fields import checked_offset, refuse, text_violations
from services.storage.upload_stream import drained, read_chunks, read_header
from tunesmith.v1 import dataset_pb2, dataset_service_pb2, dataset_service_pb2_grpc

Context = ServicerContext[Any, Any]


class DatasetServicer(dataset_service_pb2_grpc.DatasetServiceServicer):
    """Keeps training data."""

    def __init__(self, repository: DatasetRepository, store: ObjectStore, upload: DatasetUpload) -> None:
        self._repository = repository
        self._store = store
        self._upload = upload

    async def UploadDataset(
        self, request_iterator: AsyncIterator[dataset_service_pb2.UploadDatasetRequest], context: Context
    ) -> dataset_pb2.Dataset:
        """Stores a file after its every row was found good."""
        async with drained(request_iterator):
            header = _header((await read_header(request_iterator)).header)
            return _to_dataset(await self._upload.receive(header, read_chunks(request_iterator)))

    async def ValidateDataset(
        self, request_iterator: AsyncIterator[dataset_service_pb2.ValidateDatasetRequest], context: Context
    ) -> dataset_pb2.DatasetReport:
        """Checks a file and stores nothing."""
        return await check(request.chunk async for request in request_iterator)

    async def GetDataset(self, request: dataset_service_pb2.GetDatasetRequest, context: Context) -> dataset_pb2.Dataset:
        """One dataset."""
        return _to_dataset(await self._repository.get(_dataset_id(request.name)))

    async def ListDatasets(
        self, request: dataset_service_pb2.ListDatasetsRequest, context: Context
    ) -> dataset_service_pb2.ListDatasetsResponse:
        """Datasets, newest first."""
        size = page_size(request.page_size)
        found = await self._repository.page(size + 1, decode_position(request.page_token, "datasets"))
        token = ""
        if len(found) > size:
            token = encode_position(Position(found[size - 1].create_time, found[size - 1].id), "datasets")
        return dataset_service_pb2.ListDatasetsResponse(datasets=map(_to_dataset, found[:size]), next_page_token=token)

    async def DeleteDataset(self, request: dataset_service_pb2.DeleteDatasetRequest, context: Context) -> empty_pb2.Empty:
        """Removes the row, then the bytes; bytes that cannot be removed now are only an orphan."""
        dataset = await self._repository.delete(_dataset_id(request.name))
        await remove_quietly(self._store, dataset.object_key)
        return empty_pb2.Empty()

    async def DownloadDataset(
        self, request: dataset_service_pb2.DownloadDatasetRequest, context: Context
    ) -> AsyncIterator[dataset_service_pb2.DownloadDatasetResponse]:
        """The bytes as uploaded."""
        dataset = await self._repository.get(_dataset_id(request.name))
        offset = checked_offset(request.offset, dataset.size_bytes)
        async for chunk in self._store.read(dataset.object_key, offset, dataset.size_bytes):
            yield dataset_service_pb2.DownloadDatasetResponse(chunk=chunk)


def _dataset_id(name: str) -> uuid.UUID:
    identifier = resource_uuid(name, "datasets")
    bind_contextvars(dataset=str(identifier))
    return identifier


def _header(header: dataset_service_pb2.DatasetHeader) -> DatasetHeader:
    violations = list(text_violations(header.display_name, "header.display_name"))
    if header.sha256 and not is_sha256(header.sha256):
        violations.append(Violation("header.sha256", f"{header.sha256[:80]!r} is not 64 lower-case hexadecimal digits"))
    request_id = None
    if header.request_id:
        try:
            request_id = uuid.UUID(header.request_id)
        except ValueError:
            violations.append(Violation("header.request_id", f"{header.request_id[:80]!r} is not a UUID"))
    refuse(violations)
    return DatasetHeader(header.display_name, header.sha256, request_id)


def _to_dataset(dataset: Dataset) -> dataset_pb2.Dataset:
    create_time = timestamp_pb2.Timestamp()
    create_time.FromDatetime(dataset.create_time)
    return dataset_pb2.Dataset(
        name=dataset.name,
        display_name=dataset.display_name,
        size_bytes=dataset.size_bytes,
        sha256=dataset.sha256,
        statistics=_to_statistics(dataset.statistics),
        create_time=create_time,
    )


def _to_statistics(statistics: DatasetStatistics) -> dataset_pb2.DatasetStatistics:
    return dataset_pb2.DatasetStatistics(
        example_count=statistics.example_count,
        message_count=statistics.message_count,
        messages_by_role=statistics.messages_by_role,
        assistant_character_count=statistics.assistant_character_count,
        without_system_count=statistics.without_system_count,
        duplicate_count=statistics.duplicate_count,
    )
