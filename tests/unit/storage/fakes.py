"""In-memory object store and repositories; they pass the same suites as S3 and Postgres do."""

import dataclasses
import datetime
import hashlib
import uuid
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import BinaryIO

from unit.storage.memory_tables import Clock, Pending, Tables, newest_first
from unit.storage.registry_fakes import MemoryRegistryRepository
from unit.storage.retention_fakes import MemoryArtifactRepository, MemoryBlobRepository, MemorySweepRepository
from unit.storage.scrub_fakes import MemoryNoticeRepository, MemoryScrubRepository
from unit.storage.segment_fakes import MemoryEventSegmentRepository

from services.common.errors import NotFound, Unavailable
from services.storage.base_model import BaseModel, BaseModelDraft, base_model_name
from services.storage.base_model_listing import BaseModelFilter, Place
from services.storage.base_model_repository import same_files
from services.storage.dataset import Dataset, DatasetDraft, Json, dataset_name
from services.storage.dataset_filter import EVERYTHING, DatasetFilter
from services.storage.dataset_repository import refuse_lost_upload, same_request
from services.storage.object_store import CHUNK_BYTES, object_exists
from services.storage.part_upload import PartUpload, PartUploadDraft
from services.storage.part_upload_repository import upload_not_found
from services.storage.position import Position
from services.storage.registration import Repositories
from services.storage.retention import Policy
from services.storage.sweep import StoredObject
from services.storage.token_statistics_repository import StatisticsKey


class MemoryObjectStore:
    """Objects in a dict; `away` makes every call fail as an unreachable server does."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.parts: dict[tuple[str, str], dict[int, bytes]] = {}
        self.only_new = False
        self.public = True
        self.away = False

    async def prepare(self) -> None:
        self._require()

    async def probe(self) -> None:
        self._require()
        self.only_new = True

    async def put(self, key: str, content: BinaryIO, size_bytes: int) -> None:
        self._require()
        written = content.read(size_bytes)
        if self.only_new and self.objects.get(key, written) != written:
            raise object_exists(key)
        self.objects[key] = written

    async def read(self, key: str, offset: int, size_bytes: int) -> AsyncIterator[bytes]:
        if offset >= size_bytes:
            return
        self._require()
        if key not in self.objects:
            raise Unavailable("OBJECT_STORE_UNAVAILABLE", "NoSuchKey")
        content = self.objects[key][offset:]
        for start in range(0, len(content), CHUNK_BYTES):
            yield content[start : start + CHUNK_BYTES]
        if offset + len(content) < size_bytes:
            raise Unavailable("OBJECT_STORE_UNAVAILABLE", "the object ends too early")

    def read_url(self, key: str, lifetime: datetime.timedelta) -> str | None:
        return f"memory:{key}?{lifetime.total_seconds():.0f}" if self.public else None

    async def read_by_url(self, url: str) -> bytes:
        """What an HTTP GET of a URL of `read_url` does."""
        return self.objects[url.removeprefix("memory:").partition("?")[0]]

    async def remove(self, key: str) -> None:
        self._require()
        self.objects.pop(key, None)
        self.parts = {name: parts for name, parts in self.parts.items() if name[0] != key}

    async def size(self, key: str) -> int | None:
        self._require()
        return len(self.objects[key]) if key in self.objects else None

    async def begin_parts(self, key: str) -> str:
        self._require()
        self.parts[key, f"multipart {len(self.parts)}"] = {}
        return f"multipart {len(self.parts) - 1}"

    def part_url(self, key: str, multipart_id: str, number: int, lifetime: datetime.timedelta) -> str | None:
        return f"memory:{key}:{multipart_id}:{number}" if self.public else None

    async def send_part(self, url: str, content: bytes) -> None:
        """What an HTTP PUT to a URL of `part_url` does."""
        _, key, multipart_id, number = url.split(":")
        self.parts[key, multipart_id][int(number)] = content

    async def arrived_parts(self, key: str, multipart_id: str) -> list[tuple[int, int]]:
        self._require()
        return [(number, len(content)) for number, content in sorted(self.parts.get((key, multipart_id), {}).items())]

    async def join_parts(self, key: str, multipart_id: str) -> None:
        self._require()
        if parts := self.parts.get((key, multipart_id)):
            self._require_new(key)
            del self.parts[key, multipart_id]
            self.objects[key] = b"".join(parts[number] for number in sorted(parts))

    async def put_part(self, key: str, multipart_id: str, number: int, content: bytes | memoryview) -> str:
        self._require()
        self.parts[key, multipart_id][number] = bytes(content)
        return hashlib.md5(content, usedforsecurity=False).hexdigest()

    async def complete_parts(self, key: str, multipart_id: str, marks: Sequence[str]) -> None:
        self._require()
        parts = self.parts[key, multipart_id]
        for number, mark in enumerate(marks, start=1):
            if hashlib.md5(parts.get(number, b""), usedforsecurity=False).hexdigest() != mark:
                raise Unavailable("OBJECT_STORE_UNAVAILABLE", "InvalidPart")
        self._require_new(key)
        self.objects[key] = b"".join(parts[number] for number in range(1, len(marks) + 1))
        del self.parts[key, multipart_id]

    async def list(self, prefix: str, limit: int | None = None) -> Sequence[StoredObject]:
        self._require()
        found = [StoredObject(key, len(content)) for key, content in sorted(self.objects.items()) if key.startswith(prefix)]
        return found[:limit]

    def _require_new(self, key: str) -> None:
        if self.only_new and key in self.objects:
            raise object_exists(key)

    def _require(self) -> None:
        if self.away:
            raise Unavailable("OBJECT_STORE_UNAVAILABLE", "the store is away")


class MemoryPendingObjectRepository:
    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    async def add(self, key: str, size_bytes: int) -> None:
        self.tables.pending[key] = Pending(size_bytes, self.tables.clock.now())

    async def forget(self, keys: Collection[str]) -> None:
        for key in keys:
            self.tables.pending.pop(key, None)


class MemoryPartUploadRepository:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._clock = tables.clock
        self.rows = tables.part_uploads

    async def add(self, draft: PartUploadDraft) -> PartUpload:
        fields = {field.name: getattr(draft, field.name) for field in dataclasses.fields(draft)}
        self.rows[draft.id] = PartUpload(**fields, dataset=None, expire_time=self._clock.now() + self._tables.upload_lifetime)
        return self.rows[draft.id]

    async def get(self, identifier: uuid.UUID) -> PartUpload:
        if identifier not in self.rows or self.rows[identifier].expire_time <= self._clock.now():
            raise upload_not_found(identifier)
        return self.rows[identifier]

    async def end(self, identifier: uuid.UUID) -> str | None:
        if identifier not in self.rows or self.rows[identifier].dataset is not None:
            return None
        upload = self.rows.pop(identifier)
        self._tables.condemn({upload.object_key: upload.size_bytes})
        return upload.object_key

    def complete(self, identifier: uuid.UUID, dataset: uuid.UUID) -> None:
        refuse_lost_upload(identifier in self.rows)
        self.rows[identifier] = dataclasses.replace(self.rows[identifier], dataset=dataset)


class MemoryDatasetRepository:
    def __init__(self, tables: Tables, uploads: MemoryPartUploadRepository) -> None:
        self._tables = tables
        self._clock = tables.clock
        self._uploads = uploads
        self.rows = tables.datasets
        self._by_request: dict[uuid.UUID, uuid.UUID] = {}
        self._versions: dict[str, int] = {}
        self._deletions: dict[uuid.UUID, tuple[uuid.UUID, datetime.datetime]] = {}
        self._indices: dict[str, tuple[int, tuple[int, ...]]] = {}

    async def add(self, draft: DatasetDraft, keys: Mapping[str, str]) -> Dataset:
        dataset = self._known(draft) or self._inserted(draft, keys)
        if draft.upload is not None:
            self._uploads.complete(draft.upload, dataset.id)
        return dataset

    def _known(self, draft: DatasetDraft) -> Dataset | None:
        known = self.rows.get(self._by_request.get(draft.header.request_id)) if draft.header.request_id else None
        if known is not None:
            return same_request(known, draft)
        same = (draft.header.display_name, draft.sha256)
        found = [row for row in self._there() if (row.display_name, row.original.sha256) == same]
        first = min(found, key=lambda row: row.version, default=None)
        if first is None or first.expire_time is None:
            return first
        asked = self._end(draft)
        self.rows[first.id] = dataclasses.replace(first, expire_time=asked and max(asked, first.expire_time))
        return self.rows[first.id]

    def _end(self, draft: DatasetDraft) -> datetime.datetime | None:
        return self._clock.now() + draft.header.lifetime if draft.header.lifetime is not None else None

    async def expired(self, limit: int) -> list[uuid.UUID]:
        now = self._clock.now()
        due = [row for row in self.rows.values() if row.expire_time and row.expire_time <= now]
        return [row.id for row in sorted(due, key=lambda row: row.expire_time)][:limit]

    def _inserted(self, draft: DatasetDraft, keys: Mapping[str, str]) -> Dataset:
        name = draft.header.display_name
        files = tuple(sorted(self._tables.settle(draft.files, keys), key=lambda file: file.path))
        version = self._versions[name] = self._versions.get(name, 0) + 1
        same = ("format", "example_count", "statistics", "warnings", "dropped_rows_by_reason")
        fields = {field: getattr(draft, field) for field in same}
        fields |= {"create_time": self._clock.now(), "expire_time": self._end(draft)}
        self.rows[draft.id] = Dataset(id=draft.id, display_name=name, version=version, files=files, **fields)
        self._indices[self.rows[draft.id].rows.sha256] = draft.index.every, tuple(draft.index.offsets)
        if draft.header.request_id:
            self._by_request[draft.header.request_id] = draft.id
        return self.rows[draft.id]

    def _there(self) -> list[Dataset]:
        now = self._clock.now()
        hidden = {identifier for identifier, (_, end) in self._deletions.items() if end > now}
        return [row for identifier, row in self.rows.items() if identifier not in hidden]

    async def of_request(self, request_id: uuid.UUID) -> Dataset | None:
        return self.rows.get(self._by_request.get(request_id))

    async def get(self, identifier: uuid.UUID) -> Dataset:
        if self.rows.get(identifier) not in self._there():
            raise NotFound("DATASET_NOT_FOUND", dataset_name(identifier))
        return self.rows[identifier]

    async def page(self, limit: int, after: Position | None, which: DatasetFilter = EVERYTHING) -> list[Dataset]:
        rows = [
            row
            for row in self._there()
            if which.display_name_contains.lower() in row.display_name.lower()
            and which.display_name in ("", row.display_name)
            and (not which.formats or row.format in which.formats)
        ]
        return newest_first(rows, limit, after)

    async def begin_deletion(self, identifier: uuid.UUID, deletion: uuid.UUID) -> None:
        await self.get(identifier)
        self._deletions[identifier] = deletion, self._clock.now() + datetime.timedelta(minutes=1)

    async def end_deletion(self, identifier: uuid.UUID, deletion: uuid.UUID) -> None:
        if self._deletions.get(identifier, (None,))[0] == deletion:
            del self._deletions[identifier]

    async def delete(self, identifier: uuid.UUID, deletion: uuid.UUID) -> list[str]:
        known, end = self._deletions.get(identifier, (None, self._clock.now()))
        if identifier not in self.rows or known != deletion or end <= self._clock.now():
            raise NotFound("DATASET_NOT_FOUND", dataset_name(identifier))
        del self._deletions[identifier]
        return self._tables.drop_unused({file.sha256 for file in self.rows.pop(identifier).files})

    async def nearest_row(self, rows_sha256: str, row: int) -> tuple[int, int]:
        every, offsets = self._indices.get(rows_sha256, (1, ()))
        if not offsets:
            return 1, 0
        step = min((row - 1) // every, len(offsets) - 1)
        return step * every + 1, offsets[step]


class MemoryTokenStatisticsRepository:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._rows: dict[StatisticsKey, Json] = {}

    async def find(self, key: StatisticsKey) -> Json | None:
        return self._rows.get(key) if key.rows_sha256 in self._tables.blobs else None

    async def add(self, key: StatisticsKey, statistics: Json) -> None:
        if key.rows_sha256 in self._tables.blobs:
            self._rows[key] = statistics


class MemoryBaseModelRepository:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.rows = tables.models

    async def find(self, draft: BaseModelDraft) -> BaseModel | None:
        return same_files(self.rows[draft.id], draft) if draft.id in self.rows else None

    async def add(
        self, draft: BaseModelDraft, keys: Mapping[str, str], chat_template_problem: str = "", dtype: str = ""
    ) -> BaseModel:
        known = await self.find(draft)
        if known is not None:
            return known
        fields = {field.name: getattr(draft, field.name) for field in dataclasses.fields(draft)}
        fields["files"] = self._tables.settle(draft.files, keys)
        self.rows[draft.id] = BaseModel(
            **fields,
            size_bytes=draft.size_bytes,
            revision=draft.revision,
            create_time=self._tables.clock.now(),
            chat_template_problem=chat_template_problem,
            dtype=dtype,
        )
        return self.rows[draft.id]

    async def get(self, identifier: str) -> BaseModel:
        if identifier not in self.rows:
            raise NotFound("BASE_MODEL_NOT_FOUND", base_model_name(identifier))
        return dataclasses.replace(self.rows[identifier], files=self._tables.as_stored(self.rows[identifier].files))

    async def page(self, limit: int, after: Place | None, wanted: BaseModelFilter) -> list[BaseModel]:
        found = {wanted.place(model): model for model in self.rows.values() if wanted.holds(model)}
        return [found[place] for place in sorted(found) if after is None or place > after][:limit]


def memory_repositories(clock: Clock, policy: Policy | None = None) -> Repositories:
    """Repositories that share one set of tables and one clock."""
    return repositories_of(Tables(clock, policy or Policy()))


def repositories_of(tables: Tables) -> Repositories:
    """Repositories over tables a test wants to look into."""
    uploads = MemoryPartUploadRepository(tables)
    return Repositories(
        datasets=MemoryDatasetRepository(tables, uploads),
        artifacts=MemoryArtifactRepository(tables),
        models=MemoryBaseModelRepository(tables),
        blobs=MemoryBlobRepository(tables),
        pending=MemoryPendingObjectRepository(tables),
        part_uploads=uploads,
        token_statistics=MemoryTokenStatisticsRepository(tables),
        sweeps=MemorySweepRepository(tables),
        registry=MemoryRegistryRepository(tables),
        notices=MemoryNoticeRepository(tables),
        scrubs=MemoryScrubRepository(tables),
        segments=MemoryEventSegmentRepository(tables),
    )
