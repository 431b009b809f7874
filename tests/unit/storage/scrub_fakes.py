"""Announcements and checks of stored bytes in memory; they pass the same suites as those in Postgres."""

import datetime
import uuid

from unit.storage.memory_tables import Tables

from services.storage.artifact import artifact_name
from services.storage.base_model import base_model_name
from services.storage.dataset import dataset_name
from services.storage.notice import DAMAGED, Notice
from services.storage.scrub import Damage, ScrubStatus, StoredContent
from services.storage.scrub_repository import DOUBT


class MemoryNoticeRepository:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def page(self, limit: int, after: int, task: uuid.UUID | None) -> list[Notice]:
        found = [notice for notice in self._tables.notices if notice.sequence > after and task in (None, notice.task)]
        return found[:limit]


class MemoryScrubRepository:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def take(self, interval: datetime.timedelta, bytes_per_second: int) -> StoredContent | None:
        now = self._tables.clock.now()
        free = {sha256: blob for sha256, blob in self._tables.blobs.items() if (blob.checking_until or now) <= now}
        waits = {sha256: min(interval, DOUBT) if blob.damage else interval for sha256, blob in free.items()}
        due = sorted((blob.check_time, sha256) for sha256, blob in free.items() if blob.check_time <= now - waits[sha256])
        if not due:
            return None
        blob = self._tables.blobs[due[0][1]]
        blob.checking_until = now + datetime.timedelta(minutes=10, seconds=blob.size_bytes / bytes_per_second)
        return StoredContent(due[0][1], blob.size_bytes, blob.object_key)

    async def give_back(self, content: StoredContent, pause: datetime.timedelta) -> None:
        self._tables.blobs[content.sha256].checking_until = self._tables.clock.now() + pause

    async def record(self, content: StoredContent, damage: str) -> tuple[Notice, ...]:
        tables, blob = self._tables, self._tables.blobs.get(content.sha256)
        if blob is None or blob.object_key != content.object_key:
            return ()
        before, blob.damage = blob.damage, damage
        blob.check_time, blob.checking_until = tables.clock.now(), None
        if before or not damage:
            return ()
        rows = sorted(tables.artifacts.values(), key=lambda row: (row.expire_time, row.id))
        files = [(row, file) for row in rows for file in sorted(row.files, key=lambda file: file.path)]
        return tuple(
            tables.announce(DAMAGED, row, path=file.path, damage=damage) for row, file in files if file.sha256 == content.sha256
        )

    async def status(self, interval: datetime.timedelta) -> ScrubStatus:
        blobs, now = self._tables.blobs, self._tables.clock.now()
        return ScrubStatus(
            content_count=len(blobs),
            size_bytes=sum(blob.size_bytes for blob in blobs.values()),
            oldest_check_time=min((blob.check_time for blob in blobs.values()), default=None),
            overdue_bytes=sum(blob.size_bytes for blob in blobs.values() if blob.check_time <= now - interval),
            damages=tuple(
                Damage(sha256, blob.size_bytes, blob.damage, blob.check_time, self._owners(sha256))
                for sha256, blob in sorted(blobs.items())
                if blob.damage
            ),
        )

    def _owners(self, sha256: str) -> tuple[str, ...]:
        tables = self._tables
        named = [(artifact_name(row.id), row.files) for row in tables.artifacts.values()]
        named += [(base_model_name(row.id), row.files) for row in tables.models.values()]
        named += [(dataset_name(row.id), row.files) for row in tables.datasets.values()]
        named += [(row.name, row.files) for model in tables.registered.values() for row in model.versions.values()]
        return tuple(sorted(name for name, files in named if sha256 in {file.sha256 for file in files}))
