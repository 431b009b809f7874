"""In-memory object store and repositories; they pass the same suites as S3 and Postgres do."""

import dataclasses
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import BinaryIO

from unit.storage.memory_tables import Clock, Tables, newest_first
from unit.storage.registry_fakes import MemoryRegistryRepository
from unit.storage.retention_fakes import MemoryArtifactRepository, MemoryBlobRepository, MemorySweepRepository, settle

from services.common.errors import NotFound, Unavailable
from services.storage.base_model import BaseModel, BaseModelDraft, base_model_name
from services.storage.base_model_repository import same_files
from services.storage.dataset import Dataset, DatasetDraft, dataset_name
from services.storage.dataset_repository import same_request
from services.storage.object_store import CHUNK_BYTES
from services.storage.position import Position
from services.storage.registration import Repositories
from services.storage.retention import Policy
from services.storage.sweep import StoredObject


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

    async def list(self, prefix: str) -> Sequence[StoredObject]:
        self._require()
        return [StoredObject(key, len(content)) for key, content in sorted(self.objects.items()) if key.startswith(prefix)]

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


class MemoryBaseModelRepository:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.rows = tables.models

    async def find(self, draft: BaseModelDraft) -> BaseModel | None:
        return same_files(self.rows[draft.id], draft) if draft.id in self.rows else None

    async def add(self, draft: BaseModelDraft, keys: Mapping[str, str]) -> BaseModel:
        known = await self.find(draft)
        if known is not None:
            return known
        fields = {field.name: getattr(draft, field.name) for field in dataclasses.fields(draft)}
        fields["files"] = settle(self._tables, draft.files, keys)
        self.rows[draft.id] = BaseModel(
            **fields, size_bytes=draft.size_bytes, revision=draft.revision, create_time=self._tables.clock.now()
        )
        return self.rows[draft.id]

    async def get(self, identifier: str) -> BaseModel:
        if identifier not in self.rows:
            raise NotFound("BASE_MODEL_NOT_FOUND", base_model_name(identifier))
        return self.rows[identifier]

    async def page(self, limit: int, after: str | None) -> list[BaseModel]:
        return [self.rows[key] for key in sorted(self.rows) if after is None or key > after][:limit]


def memory_repositories(clock: Clock, policy: Policy | None = None) -> Repositories:
    """Repositories that share one set of tables and one clock."""
    return repositories_of(Tables(clock, policy or Policy()))


def repositories_of(tables: Tables) -> Repositories:
    """Repositories over tables a test wants to look into."""
    return Repositories(
        datasets=MemoryDatasetRepository(tables.clock),
        artifacts=MemoryArtifactRepository(tables),
        models=MemoryBaseModelRepository(tables),
        blobs=MemoryBlobRepository(tables),
        sweeps=MemorySweepRepository(tables),
        registry=MemoryRegistryRepository(tables),
    )
