"""Removes what uploads that died have left: objects without a row and unfinished uploads in parts; started by `__main__`."""

import asyncio
import datetime

import structlog

from services.common.errors import Unavailable
from services.storage.object_store import ObjectStore
from services.storage.part_upload_repository import PartUploadRepository
from services.storage.pending_object_repository import PendingObjectRepository
from services.storage.pending_objects import remove_objects

log = structlog.get_logger()

_BATCH = 100


class Sweeper:
    """Several may work on one database: what two of them remove is gone once."""

    def __init__(self, objects: PendingObjectRepository, uploads: PartUploadRepository, store: ObjectStore) -> None:
        self._objects = objects
        self._uploads = uploads
        self._store = store

    async def run(self, interval: datetime.timedelta) -> None:
        """Sweeps now and then after every `interval`, until cancelled."""
        while True:
            try:
                await self.sweep()
            except Unavailable as error:
                log.warning("sweep.postponed", error=error.message)
            except Exception:
                log.exception("sweep.failed")
            await asyncio.sleep(interval.total_seconds())

    async def sweep(self) -> int:
        """Removes everything that is due; returns how many objects are gone. Raises Unavailable (POSTGRES_UNAVAILABLE)."""
        await self._uploads.drop_expired()
        total = 0
        while keys := await self._objects.take_expired(_BATCH):
            removed = await remove_objects(self._store, self._objects, keys)
            total += removed
            if removed < len(keys):
                break
        if total:
            log.info("sweep.removed", objects=total)
        return total
