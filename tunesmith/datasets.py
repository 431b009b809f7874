"""Verbs on datasets; part of `tunesmith.Client`."""

import uuid
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from tunesmith import dataset_parts
from tunesmith.checksum import Checksum
from tunesmith.connection import UPLOAD_SECONDS, Connections
from tunesmith.names import bare_id, enum_value, resource_name
from tunesmith.transfers import Progress, chunks_of, receive, require_file, sha256_of, summed
from tunesmith.v1.dataset_pb2 import Dataset, DatasetReport
from tunesmith.v1.dataset_service_pb2 import (
    AnalyzeDatasetRequest,
    DatasetAnalysis,
    DatasetHeader,
    DeleteDatasetRequest,
    DownloadDatasetRequest,
    GetDatasetRequest,
    ListDatasetsRequest,
    PreviewDatasetRequest,
    PreviewDatasetResponse,
    UploadDatasetRequest,
    ValidateDatasetRequest,
)
from tunesmith.v1.dataset_service_pb2_grpc import DatasetServiceStub


class DatasetVerbs(Connections):
    """Training data: JSON lines or one JSON array."""

    def upload_dataset(
        self,
        path: str | Path,
        display_name: str | None = None,
        progress: Progress | None = None,
        request_id: str | None = None,
        *,
        max_invalid_rows: int | None = None,
        max_invalid_ratio: float | None = None,
    ) -> Dataset:
        """Store a file. The display name defaults to the file's; bad rows within the budget are left out, default: none may be.

        Raises:
            InvalidArgument: DATASET_INVALID with the first bad rows as violations; nothing is stored then.
        """
        file = require_file(Path(path))
        header = _header(file, display_name, request_id, max_invalid_rows, max_invalid_ratio)

        def messages() -> Iterator[UploadDatasetRequest]:
            yield UploadDatasetRequest(header=header)
            for chunk in chunks_of(file, progress):
                yield UploadDatasetRequest(chunk=chunk)

        return self.connection("storage").call(self._datasets.UploadDataset, messages(), UPLOAD_SECONDS)

    def upload_dataset_in_parts(
        self,
        path: str | Path,
        display_name: str | None = None,
        progress: Progress | None = None,
        request_id: str | None = None,
        *,
        max_invalid_rows: int | None = None,
        max_invalid_ratio: float | None = None,
    ) -> Dataset:
        """As `upload_dataset`, for big files: parts go straight to the object store, several at a time, each with retries.

        An upload that fails or is interrupted is ended, and its parts are removed.

        Raises:
            FailedPrecondition: PRESIGNED_UPLOADS_OFF; use `upload_dataset` then.
            Unreachable: PART_NOT_SENT when a part cannot be sent to the object store.
        """
        file = require_file(Path(path))
        header = _header(file, display_name, request_id, max_invalid_rows, max_invalid_ratio)
        return dataset_parts.upload(self.connection("storage"), file, header, progress)

    def validate_dataset(self, path: str | Path, progress: Progress | None = None) -> DatasetReport:
        """Check a file as an upload would and store nothing; bad rows are the answer, not an error."""
        file = require_file(Path(path))
        messages = (ValidateDatasetRequest(chunk=chunk) for chunk in chunks_of(file, progress))
        return self.connection("storage").call(self._datasets.ValidateDataset, messages, UPLOAD_SECONDS)

    def get_dataset(self, name: str) -> Dataset:
        """One dataset."""
        request = GetDatasetRequest(name=resource_name("datasets", name))
        return self.connection("storage").call(self._datasets.GetDataset, request)

    def list_datasets(
        self,
        page_size: int = 0,
        *,
        display_name_contains: str = "",
        formats: Sequence[Dataset.Format.ValueType] = (),
        display_name: str = "",
    ) -> Iterator[Dataset]:
        """Datasets, newest first; pages are fetched as they are needed. `display_name` gives the versions of this very name."""
        request = ListDatasetsRequest(
            page_size=page_size, display_name_contains=display_name_contains, formats=formats, display_name=display_name
        )
        while True:
            page = self.connection("storage").call(self._datasets.ListDatasets, request)
            yield from page.datasets
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def delete_dataset(self, name: str) -> None:
        """Remove a dataset and its bytes.

        Raises:
            FailedPrecondition: DATASET_IN_USE while a live task needs it.
        """
        request = DeleteDatasetRequest(name=resource_name("datasets", name))
        self.connection("storage").call(self._datasets.DeleteDataset, request)

    def download_dataset(self, name: str, path: str | Path, content: str = "original", progress: Progress | None = None) -> Path:
        """Fetch the file as uploaded (`original`), the rows that train (`rows`), or those that were left out (`dropped`).

        The file appears under its name when it is complete and its checksum right; an interrupted download is continued.

        Raises:
            InvalidArgument: CONTENT_UNKNOWN. DataLoss: CHECKSUM_MISMATCH.
        """
        target, dataset = Path(path), self.get_dataset(name)
        original = content_named(content) == DownloadDatasetRequest.ORIGINAL
        checksums = {"original": dataset.sha256, "rows": dataset.rows_sha256}
        advance = summed(progress, dataset.size_bytes if original else 0)
        fetch = partial(self.dataset_chunks, dataset.name, content)
        key = f"{bare_id(dataset.name)}-{content}"
        receive(fetch, target, key=key, checksum=Checksum(checksums.get(content, "")), progress=advance)
        return target

    def dataset_chunks(self, name: str, content: str = "original", offset: int = 0) -> Iterator[bytes]:
        """The bytes `download_dataset` writes, from `offset` on."""
        request = DownloadDatasetRequest(name=resource_name("datasets", name), content=content_named(content), offset=offset)
        for response in self.connection("storage").stream(self._datasets.DownloadDataset, request, UPLOAD_SECONDS):
            yield response.chunk

    def preview_dataset(
        self, name: str, base_model: str, row: int = 1, row_count: int = 1, max_seq_length: int = 0
    ) -> PreviewDatasetResponse:
        """What the base model is given for rows from `row` on, at most 20: text, tokens, and which of them carry loss."""
        request = PreviewDatasetRequest(
            name=resource_name("datasets", name),
            base_model=resource_name("baseModels", base_model),
            row=row,
            row_count=row_count,
            max_seq_length=max_seq_length,
        )
        return self.connection("storage").call(self._datasets.PreviewDataset, request)

    def analyze_dataset(
        self, name: str, base_model: str | None = None, max_seq_length: int = 0, against: str | None = None
    ) -> DatasetAnalysis:
        """Tokens as the base model counts them, and rows that the dataset `against` has, too. About a second per 2,000 rows."""
        request = AnalyzeDatasetRequest(
            name=resource_name("datasets", name),
            base_model=resource_name("baseModels", base_model) if base_model else "",
            max_seq_length=max_seq_length,
            against=resource_name("datasets", against) if against else "",
        )
        return self.connection("storage").call(self._datasets.AnalyzeDataset, request, UPLOAD_SECONDS)

    @property
    def _datasets(self) -> DatasetServiceStub:
        return self.connection("storage").stub(DatasetServiceStub)


def content_named(word: str) -> DownloadDatasetRequest.Content.ValueType:
    """`original`, `rows` or `dropped` as the contract has it.

    Raises:
        InvalidArgument: CONTENT_UNKNOWN.
    """
    value: DownloadDatasetRequest.Content.ValueType = enum_value(DownloadDatasetRequest.Content, word, "CONTENT_UNKNOWN")
    return value


def _header(
    file: Path,
    display_name: str | None,
    request_id: str | None,
    max_invalid_rows: int | None,
    max_invalid_ratio: float | None,
) -> DatasetHeader:
    return DatasetHeader(
        display_name=display_name or file.name,
        sha256=sha256_of(file),
        request_id=request_id or str(uuid.uuid4()),
        max_invalid_rows=max_invalid_rows,
        max_invalid_ratio=max_invalid_ratio,
    )
