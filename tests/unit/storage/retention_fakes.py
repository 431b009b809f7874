"""Blobs, artifacts and sweeps in memory; they pass the same suites as those in Postgres."""

import contextlib
import dataclasses
import datetime
import uuid
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

from unit.storage.memory_tables import Tables, newest_first

from services.common.errors import NotFound, ServiceError
from services.storage.artifact import Artifact, ArtifactDraft, ArtifactFilter, artifact_name
from services.storage.artifact_repository import refuse_stale
from services.storage.checkpoint_retention import CHECKPOINT, CheckpointFacts, Kept, superseded
from services.storage.notice import EXPIRING, Notice
from services.storage.position import Position
from services.storage.retention import AVAILABLE, EXPIRED, HOLD, ORPHAN_WAIT, Life, ahead, notice_due, require_available
from services.storage.retention_change import Change
from services.storage.sweep import Ending, Needed, StoredObject, Sweep
from services.storage.sweep_repository import NOTHING_NEEDED


class MemoryBlobRepository:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def known(self, sha256s: Collection[str]) -> dict[str, str]:
        found = {sha256: self._tables.blobs[sha256] for sha256 in sha256s if sha256 in self._tables.blobs}
        return {sha256: blob.object_key for sha256, blob in found.items() if not blob.damage}


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
            files=self._tables.settle(draft.files, keys),
            size_bytes=draft.size_bytes,
            create_time=now,
            life=Life(AVAILABLE, now + (draft.retention or self._tables.policy.retention), retention=draft.retention),
            state=AVAILABLE,
            delete_time=None,
        )
        self._heads[draft.task] = draft.epoch
        self._tables.artifacts[draft.id] = artifact
        self._by_request[draft.task, draft.request_id] = draft.id
        if draft.checkpoint is not None:
            self._tables.checkpoints[draft.id] = draft.checkpoint
            self._supersede(draft.task, draft.checkpoint)
        return artifact

    def _supersede(self, task: uuid.UUID, newest_one: CheckpointFacts) -> None:
        tables, now = self._tables, self._tables.clock.now()
        rows = [row for row in tables.artifacts.values() if row.id in tables.checkpoints and row.task == task]
        newest = newest_first([row for row in rows if row.life.state == AVAILABLE], len(rows), None)
        for identifier in superseded([_kept(row, tables, now) for row in newest], newest_one.limit, newest_one.first_attempt):
            row = tables.artifacts[identifier]
            ended = min(row.life.expire_time, now)
            life = dataclasses.replace(row.life, state=EXPIRED, expire_time=ended, delete_time=now, reason="superseded")
            tables.artifacts[identifier] = dataclasses.replace(row, life=life)
            tables.audit.append((identifier, "EXPIRE", "caller", "superseded"))

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
        files = self._tables.as_stored(artifact.files)
        return dataclasses.replace(artifact, state=artifact.life.state_at(now), delete_time=delete_time, files=files)


def _kept(row: Artifact, tables: Tables, now: datetime.datetime) -> Kept:
    facts, life = tables.checkpoints[row.id], row.life
    in_use = life.pinned or (life.hold_until is not None and life.hold_until > now)
    return Kept(row.id, facts.labelled, facts.eval_loss, in_use, facts.attempt)


def _was_held(row: Artifact, now: datetime.datetime, horizon: datetime.timedelta) -> bool:
    held = row.life.hold_until
    return row.kind == CHECKPOINT and held is not None and now - horizon <= held <= now + HOLD


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

    async def ending(self) -> list[Ending]:
        now, horizon = self._tables.clock.now(), ahead(self._tables.policy)
        rows = [row for row in self._available() if row.life.is_due(now + horizon) or _was_held(row, now, horizon)]
        return [Ending(row.id, row.task, row.kind) for row in rows]

    async def keep(self, needed: Needed) -> None:
        self._keep(needed)

    def _keep(self, needed: Needed) -> None:
        now, policy = self._tables.clock.now(), self._tables.policy
        for row in self._available():
            life, is_checkpoint, is_origin = row.life, row.kind == CHECKPOINT, row.id in needed.origins
            if life.is_due(now + ahead(policy)) and (is_origin or (is_checkpoint and row.task in needed.tasks)):
                kept = max(life.retention or policy.retention, 2 * ahead(policy))
                life = dataclasses.replace(life, expire_time=now + kept)
                self._tables.audit.append((row.id, "EXTEND", "sweeper", "a live task needs it"))
            if row.id in needed.unsure or (is_origin and is_checkpoint):
                life = dataclasses.replace(life, hold_until=max(life.hold_until or now, now + HOLD))
            self._tables.artifacts[row.id] = dataclasses.replace(row, life=life)

    def _available(self) -> list[Artifact]:
        return [row for row in self._tables.artifacts.values() if row.life.state == AVAILABLE]

    async def decide(self, found: Sequence[StoredObject], limit: int, *, needed: Needed = NOTHING_NEEDED, dry_run: bool) -> Sweep:
        before = self._tables.snapshot()
        self._keep(needed)
        self._judge_orphans(found, limit)
        self._drop_expired_uploads()
        expired, deleted = self._end(AVAILABLE, limit), self._end(EXPIRED, limit)
        objects = self._take_due(limit)
        sweep = Sweep(
            expired=expired,
            deleted=deleted,
            objects=objects,
            orphan_count=len(self._tables.orphans),
            notices=tuple(self._notices()),
            truncated=limit in (len(expired), len(deleted), len(objects)),
        )
        if dry_run:
            self._tables.restore(before)
        return sweep

    def _judge_orphans(self, found: Sequence[StoredObject], limit: int) -> None:
        tables, now = self._tables, self._tables.clock.now()
        known = {blob.object_key for blob in tables.blobs.values()} | tables.pending.keys()
        stray = {item.key: item.size_bytes for item in found if item.key not in known}
        for key in tables.orphans.keys() - stray.keys():
            del tables.orphans[key]
        for key, size in stray.items():
            tables.orphans.setdefault(key, (size, now))
        old = sorted((time, key) for key, (_, time) in tables.orphans.items() if time <= now - ORPHAN_WAIT)
        for _, key in old[:limit]:
            tables.condemn({key: tables.orphans.pop(key)[0]})

    def _drop_expired_uploads(self) -> None:
        uploads, now = self._tables.part_uploads, self._tables.clock.now()
        for identifier in [row.id for row in uploads.values() if row.expire_time <= now]:
            del uploads[identifier]

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
        tables.drop_unused({file.sha256 for row in due for file in row.files} if state == EXPIRED else ())
        return tuple(sorted(row.id for row in due))

    def _take_due(self, limit: int) -> tuple[StoredObject, ...]:
        oldest = self._tables.clock.now() - self._tables.upload_lifetime
        rows = [(row.create_time, key, row) for key, row in self._tables.pending.items()]
        due = sorted((time, key) for time, key, row in rows if row.removing or time <= oldest)[:limit]
        for _, key in due:
            self._tables.pending[key].removing = True
        return tuple(StoredObject(key, self._tables.pending[key].size_bytes) for _, key in due)

    def _notices(self) -> list[Notice]:
        now, made = self._tables.clock.now(), []
        told = {(notice.artifact, notice.expire_time, notice.days) for notice in self._tables.notices}
        for row in sorted(self._tables.artifacts.values(), key=lambda row: (row.expire_time, row.id)):
            days = notice_due(row.life, row.create_time, now)
            if days and (row.id, row.expire_time, days) not in told:
                made.append(self._tables.announce(EXPIRING, row, days=days))
        return made
