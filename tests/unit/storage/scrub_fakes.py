"""Announcements and checks of stored bytes in memory; they pass the same suites as those in Postgres."""

import datetime
import uuid
from collections.abc import Iterator

from unit.storage.memory_tables import Blob, Tables

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

    def _contents(self) -> dict[str, tuple[str, Blob]]:
        """Everything that is stored, by key: SHA-256 and row."""
        named = [*self._tables.blobs.items(), *((sha256, row) for (_, sha256), row in self._tables.segments.items())]
        return {row.object_key: (sha256, row) for sha256, row in named}

    async def take(self, interval: datetime.timedelta, bytes_per_second: int) -> StoredContent | None:
        now, contents = self._tables.clock.now(), self._contents()
        free = {key: row for key, (_, row) in contents.items() if (row.checking_until or now) <= now}
        waits = {key: min(interval, DOUBT) if row.damage else interval for key, row in free.items()}
        due = sorted((row.check_time, key) for key, row in free.items() if row.check_time <= now - waits[key])
        if not due:
            return None
        sha256, row = contents[due[0][1]]
        row.checking_until = now + datetime.timedelta(minutes=10, seconds=row.size_bytes / bytes_per_second)
        return StoredContent(sha256, row.size_bytes, row.object_key)

    async def give_back(self, content: StoredContent, pause: datetime.timedelta) -> None:
        self._contents()[content.object_key][1].checking_until = self._tables.clock.now() + pause

    async def record(self, content: StoredContent, damage: str, blake3: str = "") -> tuple[Notice, ...]:
        tables, (_, row) = self._tables, self._contents().get(content.object_key, (None, None))
        if row is None:
            return ()
        before, row.damage = row.damage, damage
        row.blake3 = blake3 or row.blake3
        row.check_time, row.checking_until = tables.clock.now(), None
        if before or not damage or tables.blobs.get(content.sha256) is not row:
            return ()
        rows = sorted(tables.artifacts.values(), key=lambda row: (row.expire_time, row.id))
        files = [(row, file) for row in rows for file in sorted(row.files, key=lambda file: file.path)]
        return tuple(
            tables.announce(DAMAGED, row, path=file.path, damage=damage) for row, file in files if file.sha256 == content.sha256
        )

    async def status(self, interval: datetime.timedelta) -> ScrubStatus:
        rows, now = [row for _, row in self._contents().values()], self._tables.clock.now()
        return ScrubStatus(
            content_count=len(rows),
            size_bytes=sum(row.size_bytes for row in rows),
            oldest_check_time=min((row.check_time for row in rows), default=None),
            overdue_bytes=sum(row.size_bytes for row in rows if row.check_time <= now - interval),
            damages=tuple(sorted(self._damages(), key=lambda damage: (damage.sha256, damage.owners))),
        )

    def _damages(self) -> Iterator[Damage]:
        for sha256, row in self._tables.blobs.items():
            if row.damage:
                yield Damage(sha256, row.size_bytes, row.damage, row.check_time, self._owners(sha256))
        for (task, sha256), row in self._tables.segments.items():
            if row.damage:
                yield Damage(sha256, row.size_bytes, row.damage, row.check_time, (f"tasks/{task}",))

    def _owners(self, sha256: str) -> tuple[str, ...]:
        tables = self._tables
        named = [(artifact_name(row.id), row.files) for row in tables.artifacts.values()]
        named += [(base_model_name(row.id), row.files) for row in tables.models.values()]
        named += [(dataset_name(row.id), row.files) for row in tables.datasets.values()]
        named += [(row.name, row.files) for model in tables.registered.values() for row in model.versions.values()]
        return tuple(sorted(name for name, files in named if sha256 in {file.sha256 for file in files}))
