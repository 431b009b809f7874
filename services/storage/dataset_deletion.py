"""Removes datasets that no live task needs; used by the dataset servicer."""

import uuid
from collections.abc import Callable, Sequence

import structlog

from services.common.errors import ServiceError
from services.storage.dataset import dataset_name
from services.storage.dataset_repository import DatasetRepository
from services.storage.live_tasks import LiveTasks
from services.storage.object_store import ObjectStore
from services.storage.pending_object_repository import PendingObjectRepository
from services.storage.pending_objects import remove_objects

log = structlog.get_logger()

_NAMED_TASKS = 5


class DatasetDeletion:
    """First hides the dataset from new tasks, then asks about those there are, then removes it."""

    def __init__(
        self,
        repository: DatasetRepository,
        pending: PendingObjectRepository,
        store: ObjectStore,
        tasks: LiveTasks,
        new_id: Callable[[], uuid.UUID],
    ) -> None:
        self._repository = repository
        self._pending = pending
        self._store = store
        self._tasks = tasks
        self._new_id = new_id

    async def delete(self, identifier: uuid.UUID) -> None:
        """Removes row and bytes; bytes that cannot be removed now are left to the sweeper.

        Raises ServiceError: DATASET_NOT_FOUND, DATASET_IN_USE, Unavailable; then the dataset is there as before.
        """
        deletion = self._new_id()
        await self._repository.begin_deletion(identifier, deletion)
        removed = False
        try:
            await self._refuse_needed(dataset_name(identifier))
            keys = await self._repository.delete(identifier, deletion)
            removed = True
        finally:
            if not removed:
                await self._repository.end_deletion(identifier, deletion)
        await remove_objects(self._store, self._pending, keys)
        log.info("dataset.deleted", dataset=dataset_name(identifier), objects=len(keys))

    async def _refuse_needed(self, name: str) -> None:
        found = await self._tasks.needing(name, _NAMED_TASKS + 1)
        if found:
            raise _in_use(name, found)


def _in_use(name: str, tasks: Sequence[str]) -> ServiceError:
    named = ", ".join(tasks[:_NAMED_TASKS]) + (" and more" if len(tasks) > _NAMED_TASKS else "")
    return ServiceError("DATASET_IN_USE", f"{name} is needed by {named}", metadata={"dataset": name, "tasks": named})
