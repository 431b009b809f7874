"""Removes datasets whose time has come and that no live task needs; a loop of the service."""

import asyncio
import datetime

import structlog

from services.common.errors import ServiceError
from services.storage.dataset import dataset_name
from services.storage.dataset_deletion import DatasetDeletion
from services.storage.dataset_repository import DatasetRepository

log = structlog.get_logger()


class DatasetExpiry:
    """Looks at most at `limit` datasets at a time; one that is needed is looked at again the next time."""

    def __init__(self, repository: DatasetRepository, deletion: DatasetDeletion, *, limit: int) -> None:
        self._repository = repository
        self._deletion = deletion
        self._limit = limit

    async def run(self, interval: datetime.timedelta) -> None:
        """Removes what is due now and then after every `interval`, until cancelled; the next time makes up for a failure."""
        while True:
            try:
                await self.remove_due()
            except ServiceError as error:
                log.warning("dataset_expiry.failed", reason=error.reason, error=error.message)
            except Exception:
                log.exception("dataset_expiry.crashed")
            await asyncio.sleep(interval.total_seconds())

    async def remove_due(self) -> int:
        """Removes what is due and not needed; returns how many. Raises Unavailable."""
        removed = 0
        for identifier in await self._repository.expired(self._limit):
            try:
                await self._deletion.delete(identifier)
                removed += 1
            except ServiceError as error:
                # DATASET_NOT_FOUND: another replica was faster.
                log.info("dataset_expiry.kept", dataset=dataset_name(identifier), reason=error.reason)
        return removed
