"""Ends runs on trainers that no task wants any more; run by the dispatcher.

They come from a trainer that was away while its task moved on: cancelled without it, or started anew elsewhere.
"""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from services.common.errors import ServiceError
from services.common.names import resource_uuid
from services.task_manager.trainer_port import LiveRun, Trainer

log = structlog.get_logger()


class CurrentRuns(Protocol):
    """What the sweep needs of ClaimRepository."""

    async def heard(self, runners: Sequence[str]) -> None:
        """See ClaimRepository."""

    async def current_runs(self, task_ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, str]:
        """See ClaimRepository."""


class OrphanSweep:
    """Remembers what it saw in the sweep before: only what is seen twice is ended."""

    def __init__(self, claims: CurrentRuns) -> None:
        self._claims = claims
        self._seen: set[tuple[str, str]] = set()
        self._answered: set[str] = set()

    async def sweep(self, trainers: Mapping[str, Trainer]) -> None:
        """One look at every trainer; those that do not answer are left out. Raises Unavailable before any is asked."""
        # To be asked keeps a strict trainer's runs going, so nobody asks who could not tell the others that it has answered.
        await self._claims.heard(sorted(self._answered))
        self._answered = set()
        # At the same time, so that those that do not answer keep nobody waiting: a strict trainer ends its runs when nobody asks.
        found = await asyncio.gather(*(self._sweep(address, trainer) for address, trainer in trainers.items()))
        self._seen = {orphan for orphans in found for orphan in orphans}

    async def _sweep(self, address: str, trainer: Trainer) -> set[tuple[str, str]]:
        found: set[tuple[str, str]] = set()
        try:
            for name in await self._orphans(address, trainer):
                found.add((address, name))
                if (address, name) in self._seen:
                    log.warning("run.orphaned", run=name, trainer=address)
                    await trainer.cancel_run(name)
        except ServiceError as error:
            log.info("orphans.skipped", trainer=address, reason=error.reason)
        return found

    async def _orphans(self, address: str, trainer: Trainer) -> list[str]:
        # The runs are asked for before the tasks: a run that is wanted by then is known to the database.
        runs = await trainer.live_runs()
        self._answered.add(address)
        by_task = {run: _task_id(run) for run in runs}
        current = await self._claims.current_runs([task_id for task_id in by_task.values() if task_id])
        # Runs of tasks this database does not know may belong to another one.
        return [run.name for run, task_id in by_task.items() if task_id and current.get(task_id, run.name) != run.name]


def _task_id(run: LiveRun) -> uuid.UUID | None:
    try:
        return resource_uuid(run.task, "tasks")
    except ServiceError:
        return None
