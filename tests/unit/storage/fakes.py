"""In-memory object store and repositories; they pass the same suites as S3 and Postgres do."""

import dataclasses
import datetime
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import BinaryIO

from services.common.errors import NotFound, Unavailable
from services.storage.artifact import Artifact, ArtifactDraft, artifact_name
from services.storage.artifact_repository import expired, refuse_stale
from services.storage.base_model import BaseModel, BaseModelDraft, base_model_name
from services.storage.base_model_repository import same_files
from services.storage.dataset import Dataset, DatasetDraft, dataset_name
from services.storage.dataset_repository import same_request
from services.storage.file import File, StoredFile
from services.storage.object_store import CHUNK_BYTES
from services.storage.position import Position
from services.storage.registration import Repositories

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class Clock:
    """A clock that ticks a microsecond per look, and more when told."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime.datetime:
        self.time += datetime.timedelta(microseconds=1)
        return self.time


class MemoryObjectStore:
    """Objects in a dict; `away` makes every call fail as an unreachable server does."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.away = False

    async def prepare(self) -> None:
        self._require()

    async def put(self, key: str, content: BinaryIO, size_bytes: int) -> None:
        self._require()
        self.objects[key] = content.read(size_bytes)

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

    async def remove(self, key: str) -> None:
        self._require()
        self.objects.pop(key, None)

    def _require(self) -> None:
        if self.away:
            raise Unavailable("OBJECT_STORE_UNAVAILABLE", "the store is away")


class MemoryDatasetRepository:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.rows: dict[uuid.UUID, Dataset] = {}
        self._by_request: dict[uuid.UUID, uuid.UUID] = {}

    async def add(self, draft: DatasetDraft) -> Dataset:
        known = self.rows.get(self._by_request.get(draft.request_id)) if draft.request_id else None
        if known is not None:
            return same_request(known, draft)
        fields = {field.name: getattr(draft, field.name) for field in dataclasses.fields(draft) if field.name != "request_id"}
        self.rows[draft.id] = Dataset(**fields, create_time=self._clock.now())
        if draft.request_id:
            self._by_request[draft.request_id] = draft.id
        return self.rows[draft.id]

    async def get(self, identifier: uuid.UUID) -> Dataset:
        if identifier not in self.rows:
            raise NotFound("DATASET_NOT_FOUND", dataset_name(identifier))
        return self.rows[identifier]

    async def page(self, limit: int, after: Position | None) -> list[Dataset]:
        return newest_first(self.rows.values(), limit, after)

    async def delete(self, identifier: uuid.UUID) -> Dataset:
        dataset = await self.get(identifier)
        return self.rows.pop(dataset.id)


class MemoryBlobRepository:
    def __init__(self) -> None:
        self.keys: dict[str, str] = {}

    async def known(self, sha256s: Collection[str]) -> dict[str, str]:
        return {sha256: self.keys[sha256] for sha256 in sha256s if sha256 in self.keys}

    def settle(self, files: tuple[File, ...], keys: Mapping[str, str]) -> tuple[StoredFile, ...]:
        """What `add_blobs` does: the first object of a content counts."""
        for file in files:
            self.keys.setdefault(file.sha256, keys[file.sha256])
        return tuple(StoredFile(file.path, file.size_bytes, file.sha256, self.keys[file.sha256]) for file in files)


class MemoryArtifactRepository:
    def __init__(self, clock: Clock, blobs: MemoryBlobRepository, retention: datetime.timedelta) -> None:
        self._clock = clock
        self._blobs = blobs
        self._retention = retention
        self._heads: dict[uuid.UUID, int] = {}
        self._by_request: dict[tuple[uuid.UUID, str], Artifact] = {}
        self.rows: dict[uuid.UUID, Artifact] = {}

    async def find(self, task: uuid.UUID, epoch: int, request_id: str) -> Artifact | None:
        refuse_stale(task, epoch, self._heads.get(task, epoch))
        return self._by_request.get((task, request_id))

    async def add(self, draft: ArtifactDraft, keys: Mapping[str, str]) -> Artifact:
        known = await self.find(draft.task, draft.epoch, draft.request_id)
        self._heads[draft.task] = draft.epoch
        if known is not None:
            return known
        now = self._clock.now()
        artifact = Artifact(
            id=draft.id,
            kind=draft.kind,
            task=draft.task,
            manifest=draft.manifest,
            files=self._blobs.settle(draft.files, keys),
            size_bytes=draft.size_bytes,
            create_time=now,
            expire_time=now + self._retention,
        )
        self._by_request[draft.task, draft.request_id] = self.rows[draft.id] = artifact
        return artifact

    async def get(self, identifier: uuid.UUID) -> Artifact:
        if identifier not in self.rows:
            raise NotFound("ARTIFACT_NOT_FOUND", artifact_name(identifier))
        if self.rows[identifier].expire_time <= self._clock.now():
            raise expired(self.rows[identifier])
        return self.rows[identifier]

    async def page(self, limit: int, after: Position | None, task: uuid.UUID | None) -> list[Artifact]:
        now = self._clock.now()
        rows = [row for row in self.rows.values() if row.expire_time > now and task in (None, row.task)]
        return newest_first(rows, limit, after)


class MemoryBaseModelRepository:
    def __init__(self, clock: Clock, blobs: MemoryBlobRepository) -> None:
        self._clock = clock
        self._blobs = blobs
        self.rows: dict[str, BaseModel] = {}

    async def find(self, draft: BaseModelDraft) -> BaseModel | None:
        return same_files(self.rows[draft.id], draft) if draft.id in self.rows else None

    async def add(self, draft: BaseModelDraft, keys: Mapping[str, str]) -> BaseModel:
        known = await self.find(draft)
        if known is not None:
            return known
        fields = {field.name: getattr(draft, field.name) for field in dataclasses.fields(draft)}
        fields["files"] = self._blobs.settle(draft.files, keys)
        self.rows[draft.id] = BaseModel(
            **fields, size_bytes=draft.size_bytes, revision=draft.revision, create_time=self._clock.now()
        )
        return self.rows[draft.id]

    async def get(self, identifier: str) -> BaseModel:
        if identifier not in self.rows:
            raise NotFound("BASE_MODEL_NOT_FOUND", base_model_name(identifier))
        return self.rows[identifier]

    async def page(self, limit: int, after: str | None) -> list[BaseModel]:
        return [self.rows[key] for key in sorted(self.rows) if after is None or key > after][:limit]


def memory_repositories(clock: Clock, retention: datetime.timedelta = datetime.timedelta(days=15)) -> Repositories:
    """Repositories that share one set of blobs and one clock."""
    blobs = MemoryBlobRepository()
    return Repositories(
        datasets=MemoryDatasetRepository(clock),
        artifacts=MemoryArtifactRepository(clock, blobs, retention),
        models=MemoryBaseModelRepository(clock, blobs),
        blobs=blobs,
    )


def newest_first(rows: Collection, limit: int, after: Position | None) -> list:
    key: Callable = lambda row: (row.create_time, row.id)  # noqa: E731
    older = [row for row in rows if after is None or key(row) < (after.create_time, after.id)]
    return sorted(older, key=key, reverse=True)[:limit]
