"""Finds the models that a task asks, and refuses those that cannot be chatted with; used by evaluations and generations."""

from collections.abc import Awaitable
from typing import TypeVar

from services.common.errors import InvalidArgument, NotFound, ServiceError, Violation
from services.common.names import resource_uuid
from services.task_manager.domain.asking import CHECKPOINT, full_model_name
from services.task_manager.domain.inputs import DatasetFacts
from services.task_manager.domain.origin import ArtifactFacts
from services.task_manager.repository import TaskRepository
from services.task_manager.storage_port import Storage

Found = TypeVar("Found")

_CHATS = ("ADAPTER", "MODEL", "MERGED", "CHECKPOINT")


class ServedModels:
    """Asks storage and the tasks; no transaction is open meanwhile."""

    def __init__(self, storage: Storage, repository: TaskRepository) -> None:
        self._storage = storage
        self._repository = repository

    async def find(self, name: str, field: str) -> tuple[str, ArtifactFacts | None]:
        """(the name that will always stand for the same weights, what it is made of); a version of a registered model is left to
        the inference service. Raises InvalidArgument and NotFound naming `field`, Unavailable."""
        name = full_model_name(name, field)
        if name.startswith("baseModels/"):
            await self._base_model(name, field)
            return name, None
        if name.startswith("models/"):
            return name, None
        artifact = await naming(field, self._artifact(name, field))
        if artifact.kind not in _CHATS or artifact.method == "CLASSIFICATION":
            what = f"method {artifact.method}" if artifact.kind in _CHATS else f"kind {artifact.kind}"
            raise InvalidArgument(Violation(field, f"{artifact.name} is of {what} and cannot be chatted with"))
        return artifact.name, artifact

    async def dataset(self, name: str, formats: frozenset[str], field: str) -> DatasetFacts:
        """Raises InvalidArgument when it is of no format that is asked for or has no rows, and NotFound, Unavailable."""
        facts = await naming(field, self._storage.dataset(name))
        if facts.format and facts.format not in formats:
            raise InvalidArgument(Violation(field, f"holds rows of format {facts.format}; use {' or '.join(sorted(formats))}"))
        if not facts.example_count:
            raise InvalidArgument(Violation(field, "has no rows"))
        return facts

    async def _base_model(self, name: str, field: str) -> None:
        facts = await naming(field, self._storage.base_model(name))
        if facts.chat_template_problem:
            raise InvalidArgument(Violation(field, f"{name} cannot be chatted with: {facts.chat_template_problem}"))

    async def _artifact(self, name: str, field: str) -> ArtifactFacts:
        if match := CHECKPOINT.fullmatch(name):
            return await self._checkpoint(match["task"], int(match["step"]))
        if name.startswith("tasks/"):
            task = await self._repository.get(resource_uuid(name, "tasks", field))
            if not task.artifact:
                raise InvalidArgument(Violation(field, f"{name} is {task.state.value} and has no result"))
            name = task.artifact
        return await self._storage.artifact(name)

    async def _checkpoint(self, task: str, step: int) -> ArtifactFacts:
        found = await self._storage.checkpoints(task)
        known = ", ".join(str(checkpoint.step) for checkpoint in found) or "none"
        name = f"{task}@step-{step}"
        for checkpoint in found:
            if checkpoint.step == step:
                return checkpoint
        raise NotFound("CHECKPOINT_NOT_FOUND", name, message=f"{name} does not exist; steps with a checkpoint: {known}")


async def naming(field: str, answer: Awaitable[Found]) -> Found:
    """The answer; says which field of the request asked for it when it does not exist."""
    try:
        return await answer
    except ServiceError as error:
        if error.status != "NOT_FOUND":
            raise
        metadata = {**error.metadata, "field": field}
        raise ServiceError(error.reason, f"{field}: {error.message}", hint=error.hint, metadata=metadata) from error
