"""Domain values of uploads in parts: what is promised to the caller, and how a file is cut."""

import dataclasses
import datetime
import uuid
from collections.abc import Iterable, Iterator

from services.storage.dataset import DatasetHeader

MAX_FILE_BYTES = 160 * 10**9
# So few that an answer with all their URLs stays below a megabyte and S3 lists them in one page.
MAX_PARTS = 1000
MIN_PART_BYTES = 8 * 2**20
_MIB = 2**20


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A piece of the file; numbers count from 1."""

    number: int
    offset: int
    size_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class PartUploadDraft:
    """An upload in parts whose row does not exist yet."""

    id: uuid.UUID
    header: DatasetHeader
    size_bytes: int
    object_key: str
    multipart_id: str
    """The object store's own name of the upload."""


@dataclasses.dataclass(frozen=True, slots=True)
class PartUpload:
    """An upload in parts that has not expired."""

    id: uuid.UUID
    header: DatasetHeader
    size_bytes: int
    object_key: str
    multipart_id: str
    dataset: uuid.UUID | None
    """What it has become, None = not completed."""
    expire_time: datetime.datetime

    @property
    def name(self) -> str:
        """Resource name."""
        return part_upload_name(self.id)


def part_upload_name(identifier: uuid.UUID) -> str:
    """Resource name of an upload in parts."""
    return f"datasetUploads/{identifier}"


def parts_of(size_bytes: int) -> Iterator[Part]:
    """The parts of a file: equal in size but for the last, at most 1,000, at least 8 MiB where there is more than one."""
    size = part_size(size_bytes)
    for number, offset in enumerate(range(0, size_bytes, size), 1):
        yield Part(number, offset, min(size, size_bytes - offset))


def part_size(size_bytes: int) -> int:
    """Bytes of every part but the last, in whole MiB."""
    return max(MIN_PART_BYTES, -(-size_bytes // (MAX_PARTS * _MIB)) * _MIB)


def missing_parts(size_bytes: int, arrived: Iterable[tuple[int, int]]) -> list[Part]:
    """The parts of which not exactly their bytes have arrived; `arrived` are pairs of number and size in bytes.

    Some stores list a part that was sent again twice.
    """
    there = set(arrived)
    return [part for part in parts_of(size_bytes) if (part.number, part.size_bytes) not in there]
