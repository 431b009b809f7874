"""Blobs, artifacts and sweeps in memory; they pass the same suites as those in Postgres."""

import contextlib
import dataclasses
import uuid
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

from unit.storage.memory_tables import Blob, Condemned, Tables, newest_first

from services.common.errors import NotFound, ServiceError
from services.storage.artifact import Artifact, ArtifactDraft, ArtifactFilter, artifact_name
from services.storage.artifact_repository import refuse_stale
from services.storage.blob_repository import content_removed
from services.storage.file import File, StoredFile
from services.storage.position import Position
from services.storage.retention import AVAILABLE, EXPIRED, HOLD, ORPHAN_WAIT, Life, notice_due, require_available
from services.storage.retention_change import Change
from services.storage.sweep import Notice, StoredObject, Sweep


class MemoryBlobRepository:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def known(self, sha256s: Collection[str]) -> dict[str, str]:
        blobs = {sha256: self._tables.blobs[sha256] for sha256 in sha256s if sha256 in self._tables.blobs}
        for blob in blobs.values():
            blob.hold_until = self._tables.clock.now() + HOLD
        return {sha256: blob.object_key for sha256, blob in blobs.items()}


def settle(tables: Tables, files: Sequence[File], keys: Mapping[str, str]) -> tuple[StoredFile, ...]:
    """What `add_blobs` does: the first object of a content counts."""
    for file in files:
        usable = file.sha256 in tables.blobs or (file.sha256 in keys and keys[file.sha256] not in tables.condemned)
        if not usable:
            raise content_removed(file.sha256)
    for file in files:
        if file.sha256 not in tables.blobs:
            tables.blobs[file.sha256] = Blob(file.size_bytes, keys[file.sha256])
    return tuple(StoredFile(file.path, file.size_bytes, file.sha256, tables.blobs[file.sha256].object_key) for file in files)


class MemoryArtifactRepository:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._heads: dict[uuid.UUID, int] = {}
        self._by_request: dict[tuple[uuid.UUID, str], uuid.UUID] = {}

    async def find(self, task: uuid.UUID, epoch: int, request_id: str) -> Artifact | None:
        refuse_stale(task, epoch, self._heads.get(task, epoch))
        identifier = self._by_request.get((task, request_id))
        return self._read(identifier) if identifier else None

    async def add(self, draft: ArtifactDraft, keys: Mapping[str, str]) -> Artifact:
        known = await self.find(draft.task, draft.epoch, draft.request_id)
        if known is not None:
            self._heads[draft.task] = draft.epoch
            return known
        now = self._tables.clock.now()
        artifact = Artifact(
            id=draft.id,
            kind=draft.kind,
            task=draft.task,
            manifest=draft.manifest,
            files=settle(self._tables, draft.files, keys),
            size_bytes=draft.size_bytes,
            create_time=now,
            life=Life(AVAILABLE, now + self._tables.policy.retention),
            state=AVAILABLE,
            delete_time=None,
        )
        self._heads[draft.task] = draft.epoch
        self._tables.artifacts[draft.id] = artifact
        self._by_request[draft.task, draft.request_id] = draft.id
        return artifact

    async def get(self, identifier: uuid.UUID) -> Artifact:
        artifact = self._read(identifier)
        require_available(artifact.name, artifact.life, self._tables.clock.now(), self._tables.policy)
        return artifact

    async def page(self, limit: int, after: Position | None, wanted: ArtifactFilter) -> list[Artifact]:
        rows = [self._read(identifier) for identifier in self._tables.artifacts]
        return newest_first([row for row in rows if _matches(row, wanted)], limit, after)

    async def change(self, identifier: uuid.UUID, change: Change) -> Artifact:
        artifact = self._read(identifier)
        life = change.apply(artifact.name, artifact.life, self._tables.clock.now(), self._tables.policy)
        if life != artifact.life and change.action:
            self._tables.audit.append((identifier, change.action, "caller", life.reason))
        self._tables.artifacts[identifier] = dataclasses.replace(artifact, life=life)
        return self._read(identifier)

    def _read(self, identifier: uuid.UUID) -> Artifact:
        if identifier not in self._tables.artifacts:
            raise NotFound("ARTIFACT_NOT_FOUND", artifact_name(identifier))
        artifact, now = self._tables.artifacts[identifier], self._tables.clock.now()
        delete_time = artifact.life.restorable_until(now, self._tables.policy) or artifact.life.delete_time
        return dataclasses.replace(artifact, state=artifact.life.state_at(now), delete_time=delete_time)


def _matches(artifact: Artifact, wanted: ArtifactFilter) -> bool:
    before = wanted.expiring_before
    return (
        artifact.state in wanted.states
        and wanted.task in (None, artifact.task)
        and wanted.kind in (None, artifact.kind)
        and (before is None or (artifact.expire_time < before and not artifact.life.pinned))
    )


class MemorySweepRepository:
    """Decides as the SQL does, row by row; a dry run puts the tables back."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._is_busy = False

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        if self._is_busy:
            raise ServiceError("SWEEP_RUNNING", "another sweep is at work")
        self._is_busy = True
        try:
            yield
        finally:
            self._is_busy = False

    async def decide(self, found: Sequence[StoredObject], limit: int, *, dry_run: bool) -> Sweep:
        before = self._tables.snapshot()
        self._judge_orphans(found, limit)
        expired, deleted = self._end(AVAILABLE, limit), self._end(EXPIRED, limit)
        self._condemn_unused(limit)
        objects = self._waiting()[:limit]
        sweep = Sweep(
            expired=expired,
            deleted=deleted,
            objects=tuple(objects),
            orphan_count=len(self._tables.orphans),
            notices=tuple(self._notices()),
            truncated=limit in (len(expired), len(deleted), len(objects)),
        )
        if dry_run:
            self._tables.restore(before)
        return sweep

    async def removed(self, key: str) -> None:
        self._tables.condemned[key].is_removed = True

    def _judge_orphans(self, found: Sequence[StoredObject], limit: int) -> None:
        tables, now = self._tables, self._tables.clock.now()
        alive = {blob.object_key for blob in tables.blobs.values()}
        condemned = {key for key, row in tables.condemned.items() if not row.is_removed}
        stray = {item.key: item.size_bytes for item in found if item.key not in alive | condemned}
        for key in tables.orphans.keys() - stray.keys():
            del tables.orphans[key]
        for key, size in stray.items():
            tables.orphans.setdefault(key, (size, now))
        old = sorted((time, key) for key, (_, time) in tables.orphans.items() if time <= now - ORPHAN_WAIT)
        for _, key in old[:limit]:
            tables.condemned[key] = Condemned(tables.orphans.pop(key)[0], now)

    def _end(self, state: str, limit: int) -> tuple[uuid.UUID, ...]:
        tables, now = self._tables, self._tables.clock.now()
        # What has been marked in this very sweep is not due yet, unless the grace is zero.
        due = [row for row in tables.artifacts.values() if row.life.state == state and row.life.is_due(now)]
        due = sorted(due, key=lambda row: (row.life.due_time, row.id))[:limit]
        for row in due:
            life = row.life.expired(now, tables.policy) if state == AVAILABLE else row.life.deleted(now)
            files = row.files if state == AVAILABLE else ()
            tables.artifacts[row.id] = dataclasses.replace(row, life=life, files=files)
            tables.audit.append((row.id, "EXPIRE" if state == AVAILABLE else "DELETE", "sweeper", ""))
        return tuple(sorted(row.id for row in due))

    def _condemn_unused(self, limit: int) -> None:
        tables, now = self._tables, self._tables.clock.now()
        used = {file.sha256 for file in tables.files()}
        free = [sha for sha, blob in tables.blobs.items() if blob.hold_until is None or blob.hold_until <= now]
        for sha256 in sorted(sha for sha in free if sha not in used)[:limit]:
            blob = tables.blobs.pop(sha256)
            tables.condemned[blob.object_key] = Condemned(blob.size_bytes, now)

    def _waiting(self) -> list[StoredObject]:
        rows = [(row.create_time, key, row.size_bytes) for key, row in self._tables.condemned.items() if not row.is_removed]
        return [StoredObject(key, size) for _, key, size in sorted(rows)]

    def _notices(self) -> list[Notice]:
        now, made = self._tables.clock.now(), []
        for row in sorted(self._tables.artifacts.values(), key=lambda row: (row.expire_time, row.id)):
            days = notice_due(row.life, row.create_time, now)
            if days and (row.id, row.expire_time, days) not in self._tables.notices:
                self._tables.notices.add((row.id, row.expire_time, days))
                made.append(Notice(row.id, days, row.expire_time))
        return made
