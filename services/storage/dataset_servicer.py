"""DatasetService over gRPC: protos to domain values and back."""

# ruff: noqa: N802 - methods are named as in the protos

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf import empty_pb2
from grpc.aio import ServicerContext

from services.common.names import base_model_id
from services.common.paging import page_size
from services.storage.base_model_repository import BaseModelRepository
from services.storage.dataset import Dataset
from services.storage.dataset_conversion import parsed, to_dataset, to_previews, to_upload
from services.storage.dataset_deletion import DatasetDeletion
from services.storage.dataset_intake import DatasetIntake
from services.storage.dataset_pieces import DatasetPieces
from services.storage.dataset_repository import DatasetRepository
from services.storage.dataset_requests import (
    dataset_id,
    filter_of,
    header_of,
    joined_file_of,
    part_upload_of,
    piece_upload_id,
    preview_range,
    upload_id,
    with_lifetime,
)
from services.storage.dataset_tokens import DatasetTokens
from services.storage.dataset_upload import DatasetUpload
from services.storage.file import StoredFile
from services.storage.part_uploads import PartUploads
from services.storage.position import Position, decode_position, encode_position
from services.storage.request_fields import checked_offset
from services.storage.upload_stream import Seal, drained, read_chunks, read_header, read_sealed_chunks
from services.storage.verified_read import VerifiedRead
from tunesmith.v1 import dataset_pb2, dataset_service_pb2, dataset_service_pb2_grpc

Context = ServicerContext[Any, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetWork:
    """What stands behind the service."""

    repository: DatasetRepository
    models: BaseModelRepository
    files: VerifiedRead
    intake: DatasetIntake
    upload: DatasetUpload
    part_uploads: PartUploads
    pieces: DatasetPieces
    deletion: DatasetDeletion
    tokens: DatasetTokens


class DatasetServicer(dataset_service_pb2_grpc.DatasetServiceServicer):
    """Keeps training data."""

    def __init__(self, work: DatasetWork) -> None:
        self._work = work

    async def UploadDataset(
        self, request_iterator: AsyncIterator[dataset_service_pb2.UploadDatasetRequest], context: Context
    ) -> dataset_pb2.Dataset:
        """Stores a file after its every row was checked."""
        async with drained(request_iterator) as requests:
            header, seal = (await read_header(requests)).header, Seal()
            sealed = header.sha256_follows
            chunks = read_sealed_chunks(requests, seal) if sealed else read_chunks(requests)
            received = self._work.upload.receive(header_of(header), chunks, lambda given: with_lifetime(given, seal))
            return to_dataset(await received)

    async def CreateDatasetUpload(
        self, request: dataset_service_pb2.CreateDatasetUploadRequest, context: Context
    ) -> dataset_service_pb2.DatasetUpload:
        """Begins an upload in parts."""
        header, size_bytes = part_upload_of(request)
        return to_upload(*await self._work.part_uploads.begin(header, size_bytes))

    async def CompleteDatasetUpload(
        self, request: dataset_service_pb2.CompleteDatasetUploadRequest, context: Context
    ) -> dataset_pb2.Dataset:
        """Stores what the parts make after its every row was checked."""
        return to_dataset(await self._work.part_uploads.complete(upload_id(request.name)))

    async def AbortDatasetUpload(
        self, request: dataset_service_pb2.AbortDatasetUploadRequest, context: Context
    ) -> empty_pb2.Empty:
        """Removes an upload in parts."""
        await self._work.part_uploads.end(upload_id(request.name))
        return empty_pb2.Empty()

    async def UploadDatasetPiece(
        self, request_iterator: AsyncIterator[dataset_service_pb2.UploadDatasetPieceRequest], context: Context
    ) -> dataset_service_pb2.DatasetPiece:
        """Stores a piece of a file."""
        async with drained(request_iterator) as requests:
            upload = piece_upload_id((await read_header(requests)).header.upload, "header.upload")
            identifier, size_bytes = await self._work.pieces.add(upload, read_chunks(requests))
            return dataset_service_pb2.DatasetPiece(name=f"datasetPieces/{identifier}", size_bytes=size_bytes)

    async def JoinDatasetPieces(
        self, request: dataset_service_pb2.JoinDatasetPiecesRequest, context: Context
    ) -> dataset_pb2.Dataset:
        """Stores what the pieces make after its every row was checked."""
        return to_dataset(await self._work.pieces.join(joined_file_of(request)))

    async def RemoveDatasetPieces(
        self, request: dataset_service_pb2.RemoveDatasetPiecesRequest, context: Context
    ) -> empty_pb2.Empty:
        """Removes the pieces of an upload."""
        await self._work.pieces.remove(piece_upload_id(request.upload, "upload"))
        return empty_pb2.Empty()

    async def ValidateDataset(
        self, request_iterator: AsyncIterator[dataset_service_pb2.ValidateDatasetRequest], context: Context
    ) -> dataset_pb2.DatasetReport:
        """Checks a file and stores nothing."""
        outcome = await self._work.intake.report(request.chunk async for request in request_iterator)
        return parsed(outcome.report, dataset_pb2.DatasetReport())

    async def GetDataset(self, request: dataset_service_pb2.GetDatasetRequest, context: Context) -> dataset_pb2.Dataset:
        """One dataset."""
        return to_dataset(await self._dataset(request.name))

    async def ListDatasets(
        self, request: dataset_service_pb2.ListDatasetsRequest, context: Context
    ) -> dataset_service_pb2.ListDatasetsResponse:
        """Datasets, newest first."""
        size, which = page_size(request.page_size), filter_of(request)
        found = await self._work.repository.page(size + 1, decode_position(request.page_token, which.text), which)
        token = ""
        if len(found) > size:
            token = encode_position(Position(found[size - 1].create_time, found[size - 1].id), which.text)
        return dataset_service_pb2.ListDatasetsResponse(datasets=map(to_dataset, found[:size]), next_page_token=token)

    async def DeleteDataset(self, request: dataset_service_pb2.DeleteDatasetRequest, context: Context) -> empty_pb2.Empty:
        """Removes a dataset no live task needs."""
        await self._work.deletion.delete(dataset_id(request.name))
        return empty_pb2.Empty()

    async def DownloadDataset(
        self, request: dataset_service_pb2.DownloadDatasetRequest, context: Context
    ) -> AsyncIterator[dataset_service_pb2.DownloadDatasetResponse]:
        """The file as uploaded, the rows that train, or those that were left out."""
        dataset = await self._dataset(request.name)
        file = _content(dataset, request.content)
        offset = checked_offset(request.offset, file.size_bytes if file else 0)
        if file is not None:
            async for chunk in self._work.files.read(file, dataset.name, offset, context):
                yield dataset_service_pb2.DownloadDatasetResponse(chunk=chunk)

    async def PreviewDataset(
        self, request: dataset_service_pb2.PreviewDatasetRequest, context: Context
    ) -> dataset_service_pb2.PreviewDatasetResponse:
        """What a base model is given for chosen rows."""
        first, count = preview_range(request)
        dataset = await self._dataset(request.name)
        model = await self._work.models.get(base_model_id(request.base_model, "base_model"))
        return to_previews(await self._work.tokens.preview(dataset, model, first, count, request.max_seq_length))

    async def AnalyzeDataset(
        self, request: dataset_service_pb2.AnalyzeDatasetRequest, context: Context
    ) -> dataset_service_pb2.DatasetAnalysis:
        """Tokens as a base model sees them, and rows of another dataset."""
        analysis = dataset_service_pb2.DatasetAnalysis()
        dataset = await self._dataset(request.name)
        if request.base_model:
            model = await self._work.models.get(base_model_id(request.base_model, "base_model"))
            parsed(await self._work.tokens.statistics(dataset, model, request.max_seq_length), analysis.tokens)
        if request.against:
            against = await self._work.repository.get(dataset_id(request.against, "against"))
            parsed(await self._work.tokens.overlap(dataset, against), analysis.overlap)
        return analysis

    async def _dataset(self, name: str) -> Dataset:
        return await self._work.repository.get(dataset_id(name))


def _content(dataset: Dataset, content: int) -> StoredFile | None:
    """The file with that content, None when there are no bytes; values of newer callers are the original's."""
    if content == dataset_service_pb2.DownloadDatasetRequest.ROWS:
        return dataset.rows
    return dataset.dropped if content == dataset_service_pb2.DownloadDatasetRequest.DROPPED else dataset.original
