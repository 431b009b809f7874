"""Domain values of datasets; made by the upload and the repository, read by the servicer."""

import dataclasses
import datetime
import uuid
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetStatistics:
    """What was counted while checking, over usable rows."""

    example_count: int
    message_count: int
    messages_by_role: Mapping[str, int]
    assistant_character_count: int
    without_system_count: int
    duplicate_count: int


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetDraft:
    """A checked file whose bytes lie in S3 and whose row does not exist yet."""

    id: uuid.UUID
    display_name: str
    size_bytes: int
    sha256: str
    object_key: str
    statistics: DatasetStatistics
    request_id: uuid.UUID | None
    """Name the caller gave to the upload, None = it gave none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Dataset:
    """A stored dataset."""

    id: uuid.UUID
    display_name: str
    size_bytes: int
    sha256: str
    object_key: str
    statistics: DatasetStatistics
    create_time: datetime.datetime

    @property
    def name(self) -> str:
        """Resource name."""
        return dataset_name(self.id)


def dataset_name(identifier: uuid.UUID) -> str:
    """Resource name of a dataset."""
    return f"datasets/{identifier}"
