<<<<<<< HEAD
"""Ends what is due: decides in the database first, removes bytes after; a loop of the service, and SweepArtifacts on demand.

Killed between the two, the next sweep finds the decision and goes on. Bytes are only ever removed under keys the decision names.
"""

import asyncio
import dataclasses

import structlog

from services.common.errors import ServiceError
from services.storage.artifact import artifact_name
from services.storage.object_store import ObjectStore
from services.storage.sweep import StoredObject, Sweep
from services.storage.sweep_repository import SweepRepository

log = structlog.get_logger()

BLOBS = "blobs/"
"""Where the bytes of artifacts, base models and registered models lie; nothing else is looked at."""


class Sweeper:
    """Sweeps at most `limit` artifacts and objects at a time. Switched to `dry_run` it only tells, whoever asks."""

    def __init__(self, repository: SweepRepository, store: ObjectStore, *, limit: int, dry_run: bool = False) -> None:
        self._repository = repository
        self._store = store
        self._limit = limit
        self._dry_run = dry_run

    async def run(self, interval: float) -> None:
        """Sweeps every `interval` seconds until cancelled; a sweep that fails is logged and made up for by the next."""
        while True:
            await asyncio.sleep(interval)
            await self._sweep_logged()

    async def sweep(self, *, dry_run: bool) -> tuple[Sweep, bool]:
        """One sweep: what was done, or would be done, and whether it was a dry run.

        Its `objects` are those that were removed. Raises ServiceError (SWEEP_RUNNING) and Unavailable.
        """
        if dry_run or self._dry_run:
            return await self._decide(dry_run=True), True
        async with self._repository.alone():
            sweep = await self._decide(dry_run=False)
            _announce(sweep)
            return dataclasses.replace(sweep, objects=await self._remove(sweep.objects)), False

    async def _decide(self, *, dry_run: bool) -> Sweep:
        # The list is older than the decision: what has come since is not in it and cannot be taken for an orphan.
        found = await self._store.list(BLOBS)
        return await self._repository.decide(found, self._limit, dry_run=dry_run)

    async def _remove(self, objects: tuple[StoredObject, ...]) -> tuple[StoredObject, ...]:
        removed: list[StoredObject] = []
        for item in objects:
            try:
                await self._store.remove(item.key)
                await self._repository.removed(item.key)
            except ServiceError as error:
                log.warning("sweep.interrupted", removed=len(removed), left=len(objects) - len(removed), error=error.message)
                break
            removed.append(item)
        return tuple(removed)

    async def _sweep_logged(self) -> None:
        try:
            sweep, dry_run = await self.sweep(dry_run=False)
        except ServiceError as error:
            log.warning("sweep.failed", reason=error.reason, error=error.message)
        except Exception:
            log.exception("sweep.crashed")
        else:
            counts = {"expired": len(sweep.expired), "deleted": len(sweep.deleted), "removed": len(sweep.objects)}
            bytes_removed = sum(item.size_bytes for item in sweep.objects)
            log.info("sweep.done", dry_run=dry_run, **counts, removed_bytes=bytes_removed, orphans=sweep.orphan_count)


def _announce(sweep: Sweep) -> None:
    for notice in sweep.notices:
        expire_time = notice.expire_time.isoformat(timespec="seconds")
        log.info("artifact.expiring", artifact=artifact_name(notice.artifact), days=notice.days, expire_time=expire_time)
    for identifier in sweep.expired:
        log.info("artifact.expired", artifact=artifact_name(identifier))
    for identifier in sweep.deleted:
        log.info("artifact.deleted", artifact=artifact_name(identifier))
=======
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
>>>>>>> main
