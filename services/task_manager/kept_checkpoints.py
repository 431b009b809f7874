"""Finds the checkpoints that led to a task's result; used by evaluations that ask them, too."""

from collections.abc import Sequence

from services.common.errors import NotFound
from services.common.names import resource_uuid
from services.task_manager.domain.kept_checkpoints import on_the_way, own
from services.task_manager.domain.origin import ArtifactFacts
from services.task_manager.repository import TaskRepository
from services.task_manager.storage_port import Storage

_RESULTS = ("ADAPTER", "MODEL")


class KeptCheckpoints:
    """Asks storage and the tasks; no transaction is open meanwhile. Raises Unavailable."""

    def __init__(self, storage: Storage, repository: TaskRepository) -> None:
        self._storage = storage
        self._repository = repository

    async def before(self, result: ArtifactFacts) -> list[ArtifactFacts]:
        """Oldest step first; none of what is no result of a fine-tuning."""
        if result.kind not in _RESULTS or not result.task:
            return []
        stored = await self._storage.checkpoints(result.task)
        return on_the_way(own(stored, await self._first_attempt(result.task)), result)

    async def before_result(self, name: str) -> Sequence[str]:
        """Their names, of the result `artifacts/{uuid}`; none when that is there no more."""
        try:
            result = await self._storage.artifact(name)
        except NotFound:
            return ()
        return [each.name for each in await self.before(result)]

    async def _first_attempt(self, task: str) -> int:
        """A task that is deleted leaves all it had."""
        try:
            return (await self._repository.get(resource_uuid(task, "tasks"))).first_attempt
        except NotFound:
            return 0
