"""Verbs on datasets; part of `tunesmith.Client`."""

import uuid
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from tunesmith.connection import UPLOAD_SECONDS, Connections
from tunesmith.names import resource_name
from tunesmith.transfers import Progress, chunks_of, require_file, sha256_of
from tunesmith.v1.dataset_pb2 import Dataset, DatasetReport
from tunesmith.v1.dataset_service_pb2 import (
    DatasetHeader,
    DeleteDatasetRequest,
    GetDatasetRequest,
    ListDatasetsRequest,
    UploadDatasetRequest,
    ValidateDatasetRequest,
)
from tunesmith.v1.dataset_service_pb2_grpc import DatasetServiceStub


class DatasetVerbs(Connections):
    """Training data in OpenAI chat format (JSON lines)."""

    def upload_dataset(
        self, path: str | Path, display_name: str | None = None, progress: Progress | None = None, request_id: str | None = None
    ) -> Dataset:
        """Store a file. The display name defaults to the file's.

        Raises:
            InvalidArgument: DATASET_INVALID with the first bad rows as violations; nothing is stored then.
        """
        file = require_file(Path(path))
        header = DatasetHeader(
            display_name=display_name or file.name, sha256=sha256_of(file), request_id=request_id or str(uuid.uuid4())
        )

        def messages() -> Iterator[UploadDatasetRequest]:
            yield UploadDatasetRequest(header=header)
            for chunk in chunks_of(file, progress):
                yield UploadDatasetRequest(chunk=chunk)

        return self.connection("storage").call(self._datasets.UploadDataset, messages(), UPLOAD_SECONDS)

    def validate_dataset(self, path: str | Path, progress: Progress | None = None) -> DatasetReport:
        """Check a file as an upload would and store nothing; bad rows are the answer, not an error."""
        file = require_file(Path(path))
        messages = (ValidateDatasetRequest(chunk=chunk) for chunk in chunks_of(file, progress))
        return self.connection("storage").call(self._datasets.ValidateDataset, messages, UPLOAD_SECONDS)

    def get_dataset(self, name: str) -> Dataset:
        """One dataset."""
        request = GetDatasetRequest(name=resource_name("datasets", name))
        return self.connection("storage").call(self._datasets.GetDataset, request)

    def list_datasets(self, page_size: int = 0) -> Iterator[Dataset]:
        """Every dataset, newest first; pages are fetched as they are needed."""
        request = ListDatasetsRequest(page_size=page_size)
        while True:
            page = self.connection("storage").call(self._datasets.ListDatasets, request)
            yield from page.datasets
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def delete_dataset(self, name: str) -> None:
        """Remove a dataset and its bytes."""
        request = DeleteDatasetRequest(name=resource_name("datasets", name))
        self.connection("storage").call(self._datasets.DeleteDataset, request)

    @cached_property
    def _datasets(self) -> DatasetServiceStub:
        return DatasetServiceStub(self.connection("storage").channel)
