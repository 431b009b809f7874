"""Removes versions of registered models from which no live task starts; used by the model servicer.

Whoever creates a task holds the version first and records the task right after it. So one who looks for tasks and then deletes
what is not held misses none: a task that was not there when it looked still has its hold.
"""

from collections.abc import Sequence

import structlog

from services.common.errors import ServiceError
from services.common.names import RegisteredName
from services.storage.live_tasks import LiveTasks
from services.storage.registry_repository import RegistryRepository

log = structlog.get_logger()

_NAMED_TASKS = 5


class VersionDeletion:
    """First asks about tasks, then removes the version unless it is held."""

    def __init__(self, registry: RegistryRepository, tasks: LiveTasks) -> None:
        self._registry = registry
        self._tasks = tasks

    async def delete(self, name: RegisteredName) -> None:
        """Removes the row, and leaves what nothing else refers to, to the sweeper.

        Raises NotFound, ServiceError (MODEL_VERSION_IN_USE) and Unavailable (TASK_MANAGER_UNAVAILABLE); nothing has changed then.
        """
        version = await self._registry.version(name)
        found = await self._tasks.starting_from_version(version.name, _NAMED_TASKS + 1)
        if found:
            raise _needed(version.name, found)
        await self._registry.delete(name)
        log.info("model_version.deleted", model_version=version.name)


def _needed(name: str, tasks: Sequence[str]) -> ServiceError:
    named = ", ".join(tasks[:_NAMED_TASKS]) + (" and more" if len(tasks) > _NAMED_TASKS else "")
    message = f"tasks that have not ended start from {name}: {named}"
    hint = "Wait until they have ended, or cancel them: tunesmith task cancel."
    return ServiceError("MODEL_VERSION_IN_USE", message, hint=hint, metadata={"resource": name, "tasks": named})
