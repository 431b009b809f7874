"""Segments of events in memory; they pass the same suites as those in Postgres."""

import uuid

from unit.storage.memory_tables import Blob, Tables

from services.storage.file import StoredFile


class MemoryEventSegmentRepository:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def find(self, task: uuid.UUID, sha256: str) -> StoredFile | None:
        row = self._tables.segments.get((task, sha256))
        return StoredFile(f"events/{sha256}", row.size_bytes, sha256, row.object_key, row.damage) if row else None

    async def add(self, task: uuid.UUID, segment: StoredFile) -> bool:
        known = self._tables.segments.get((task, segment.sha256))
        if known is not None and not known.damage:
            return False
        self._tables.claim({segment.object_key})
        if known is not None:
            self._tables.condemn({known.object_key: known.size_bytes})
        row = Blob(segment.size_bytes, segment.object_key, self._tables.clock.now())
        self._tables.segments[task, segment.sha256] = row
        return True

    async def delete(self, task: uuid.UUID) -> None:
        for key in [key for key in self._tables.segments if key[0] == task]:
            row = self._tables.segments.pop(key)
            self._tables.condemn({row.object_key: row.size_bytes})
