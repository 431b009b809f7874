"""Domain values of datasets; made by the upload and the repository, read by the servicer."""

import dataclasses
import datetime
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from services.storage.checking.budget import Budget
from services.storage.file import File, StoredFile

Json = Mapping[str, Any]
"""A message of the contract as JSON: made by the checker, kept and handed on unread."""

ORIGINAL, ROWS, DROPPED = "ORIGINAL", "ROWS", "DROPPED"
"""What there is of a dataset, by the names of DownloadDatasetRequest.Content; they are the paths of its files."""


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetHeader:
    """What a caller says of a file before its bytes come."""

    display_name: str
    sha256: str
    """Of the whole file; empty = the caller does not say."""
    request_id: uuid.UUID | None
    """Name the caller gave to the upload, None = it gave none."""
    budget: Budget
    lifetime: datetime.timedelta | None = None
    """How long the dataset is kept; None = until somebody deletes it."""


@dataclasses.dataclass(frozen=True, slots=True)
class RowIndex:
    """Where rows begin: `offsets` are the bytes of the rows 1, 1 + every, 1 + 2 * every, …"""

    every: int
    offsets: Sequence[int]


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetDraft:
    """A checked file whose bytes lie in S3 and whose row does not exist yet."""

    id: uuid.UUID
    header: DatasetHeader
    format: str
    """Name of a Dataset.Format."""
    example_count: int
    statistics: Json
    """tunesmith.v1.DatasetStatistics."""
    warnings: Sequence[Json]
    """tunesmith.v1.DatasetWarning."""
    dropped_rows_by_reason: Mapping[str, int]
    files: tuple[File, ...]
    """ORIGINAL, ROWS and, when rows were left out, DROPPED."""
    index: RowIndex
    upload: uuid.UUID | None = None
    """The upload in parts that this completes."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes as uploaded."""
        return next(file.sha256 for file in self.files if file.path == ORIGINAL)


@dataclasses.dataclass(frozen=True, slots=True)
class Dataset:
    """A stored dataset."""

    id: uuid.UUID
    display_name: str
    version: int
    format: str
    example_count: int
    statistics: Json
    warnings: Sequence[Json]
    dropped_rows_by_reason: Mapping[str, int]
    files: tuple[StoredFile, ...]
    create_time: datetime.datetime
    expire_time: datetime.datetime | None = None
    """None = kept until somebody deletes it."""

    @property
    def name(self) -> str:
        """Resource name."""
        return dataset_name(self.id)

    @property
    def original(self) -> StoredFile:
        """The file as uploaded."""
        return self._file(ORIGINAL)

    @property
    def rows(self) -> StoredFile:
        """The rows that train, one JSON object a line."""
        return self._file(ROWS)

    @property
    def dropped(self) -> StoredFile | None:
        """The rows that were left out, None when there are none."""
        return next((file for file in self.files if file.path == DROPPED), None)

    @property
    def dropped_row_count(self) -> int:
        """Rows that were left out."""
        return sum(self.dropped_rows_by_reason.values())

    def _file(self, content: str) -> StoredFile:
        return next(file for file in self.files if file.path == content)


def dataset_name(identifier: uuid.UUID) -> str:
    """Resource name of a dataset."""
    return f"datasets/{identifier}"
