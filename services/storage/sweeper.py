"""Ends what is due: artifacts, what dead uploads have left, orphans; a loop of the service, and SweepArtifacts on demand.

It decides in the database first and removes bytes after; killed between the two, the next sweep finds the decision and goes on.
Bytes are only ever removed under keys the decision names.
"""

import asyncio
import dataclasses
import datetime

import structlog

from services.common.errors import ServiceError
from services.storage.artifact import artifact_name
from services.storage.checkpoint_retention import CHECKPOINT
from services.storage.live_tasks import LiveTasks, NoTasks
from services.storage.object_store import ObjectStore
from services.storage.pending_object_repository import PendingObjectRepository
from services.storage.pending_objects import remove_objects
from services.storage.sweep import Needed, StoredObject, Sweep
from services.storage.sweep_repository import SweepRepository

log = structlog.get_logger()

_NO_TASKS = NoTasks()

BLOBS = "blobs/"
"""Where all bytes lie; nothing else is looked at."""


class Sweeper:
    """Sweeps at most `limit` artifacts and objects at a time.

    Switched to `dry_run` it ends and removes nothing, whoever asks; what live tasks need is kept from its end all the same.
    """

    def __init__(
        self,
        repository: SweepRepository,
        pending: PendingObjectRepository,
        store: ObjectStore,
        *,
        limit: int,
        dry_run: bool = False,
        tasks: LiveTasks = _NO_TASKS,
    ) -> None:
        self._repository = repository
        self._pending = pending
        self._store = store
        self._limit = limit
        self._dry_run = dry_run
        self._tasks = tasks

    async def run(self, interval: datetime.timedelta) -> None:
        """Sweeps now and then after every `interval`, until cancelled; the next sweep makes up for one that fails."""
        while True:
            await self._sweep_logged()
            await asyncio.sleep(interval.total_seconds())

    async def sweep(self, *, dry_run: bool) -> tuple[Sweep, bool]:
        """One sweep: what was done, or would be done, and whether it was a dry run.

        Its `objects` are those that were removed. Raises ServiceError (SWEEP_RUNNING) and Unavailable.
        """
        needed = await self._needed()
        if dry_run:
            return await self._decide(needed, dry_run=True), True
        async with self._repository.alone():
            if self._dry_run:
                await self._repository.keep(needed)
                return await self._decide(needed, dry_run=True), True
            sweep = await self._decide(needed, dry_run=False)
            _announce(sweep)
            return dataclasses.replace(sweep, objects=await self._remove(sweep.objects)), False

    async def _needed(self) -> Needed:
        """A live task needs what it continues and what it starts from, however long it rests.

        What nobody can tell, as at every start, is held: it must not end, and gets no new retention for that.
        """
        ending = await self._repository.ending()
        tasks = frozenset(each.task for each in ending if each.kind == CHECKPOINT)
        artifacts = frozenset(each.artifact for each in ending)
        try:
            return Needed(
                tasks=frozenset(await self._tasks.alive(tasks)) if tasks else tasks,
                origins=frozenset(await self._tasks.starting_from(artifacts)) if artifacts else artifacts,
            )
        except ServiceError as error:
            log.warning("artifacts.kept", artifacts=len(artifacts), reason=error.reason)
            return Needed(unsure=artifacts)

    async def _decide(self, needed: Needed, *, dry_run: bool) -> Sweep:
        # The list is older than the decision: what has come since is not in it and cannot be taken for an orphan.
        found = await self._store.list(BLOBS)
        return await self._repository.decide(found, self._limit, needed=needed, dry_run=dry_run)

    async def _remove(self, objects: tuple[StoredObject, ...]) -> tuple[StoredObject, ...]:
        removed = set(await remove_objects(self._store, self._pending, [item.key for item in objects]))
        return tuple(item for item in objects if item.key in removed)

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
