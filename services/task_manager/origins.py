"""Finds what a task shall start from, and refuses what does not fit; used when a task is created, planned or tried again."""

import asyncio
import dataclasses
import re
import uuid

from services.common.errors import InvalidArgument, NotFound, Violation
from services.common.names import registered_name, resource_uuid
from services.task_manager.domain.fine_tuning import FineTuning
from services.task_manager.domain.origin import FIELD, ArtifactFacts, violations, with_adapter_of
from services.task_manager.repository import TaskRepository
from services.task_manager.storage_port import Storage

_CHECKPOINT = re.compile(r"(?P<task>tasks/[0-9a-fA-F-]{32,36})@step-(?P<step>[1-9][0-9]{0,17})")
_FORMS = "artifacts/{uuid}, tasks/{uuid} or tasks/{uuid}@step-N"
"""What every kind of task takes; a fine-tuning takes versions of registered models as well."""


class Origins:
    """Asks storage and the tasks; no transaction is open meanwhile."""

    def __init__(self, storage: Storage, repository: TaskRepository) -> None:
        self._storage = storage
        self._repository = repository

    async def of(self, ask: FineTuning) -> tuple[FineTuning, ArtifactFacts | None]:
        """The ask with the artifact's name and the adapter's numbers; (ask, None) when it starts from the base model alone.

        Raises InvalidArgument with everything that does not fit, NotFound, Unavailable.
        """
        if not ask.initial_artifact:
            return ask, None
        origin = await self._start(ask)
        base_model = await self._storage.base_model(ask.base_model)
        if unfit := list(violations(ask, origin, base_model.revision)):
            raise InvalidArgument(*unfit)
        return dataclasses.replace(with_adapter_of(ask, origin.hyperparameters.lora), initial_artifact=origin.name), origin

    async def keep(self, name: str) -> None:
        """Holds what a task that is about to be queued starts from; the sweeper of storage goes on with it while the task lives.

        Raises NotFound (ARTIFACT_EXPIRED, MODEL_VERSION_NOT_FOUND) when it is too late, and Unavailable.
        """
        await self._storage.hold(name)

    async def find(self, name: str, field: str = FIELD) -> ArtifactFacts:
        """What `artifacts/{uuid}`, `tasks/{uuid}` or `tasks/{uuid}@step-N` names; `field` is where the request says it.

        Raises InvalidArgument and NotFound.
        """
        if name.startswith("artifacts/"):
            return await self._storage.artifact(f"artifacts/{resource_uuid(name, 'artifacts', field)}")
        if match := _CHECKPOINT.fullmatch(name):
            return await self._checkpoint(resource_uuid(match["task"], "tasks", field), int(match["step"]), field)
        if name.startswith("tasks/") and "@" not in name:
            return await self._result(resource_uuid(name, "tasks", field), field)
        raise InvalidArgument(Violation(field, f"{name[:80]!r} is not a name of the form {_FORMS}"), reason="INVALID_NAME")

    async def _start(self, ask: FineTuning) -> ArtifactFacts:
        if not ask.initial_artifact.startswith("models/"):
            return await self.find(ask.initial_artifact)
        registered_name(ask.initial_artifact, FIELD)
        origin = await self._storage.model_version(ask.initial_artifact)
        return await self._on_base_model(ask.base_model, origin) if origin.names_no_base_model else origin

    async def _on_base_model(self, base_model: str, origin: ArtifactFacts) -> ArtifactFacts:
        """All weights of the base model are replaced, so any of the same layout is the one beneath."""
        own, other = await asyncio.gather(self._storage.model_shape(origin.name), self._storage.model_shape(base_model))
        return dataclasses.replace(origin, base_model=base_model) if own is not None and own == other else origin

    async def _checkpoint(self, task_id: uuid.UUID, step: int, field: str) -> ArtifactFacts:
        first = await self._first_attempt(task_id)
        found = [each for each in await self._storage.checkpoints(f"tasks/{task_id}") if each.attempt >= first]
        for checkpoint in found:
            if checkpoint.step == step:
                return checkpoint
        known = ", ".join(str(checkpoint.step) for checkpoint in found) or "none"
        name = f"tasks/{task_id}@step-{step}"
        raise NotFound("CHECKPOINT_NOT_FOUND", name, message=f"{field}: {name} does not exist; steps with a checkpoint: {known}")

    async def _first_attempt(self, task_id: uuid.UUID) -> int:
        """What the attempts before it have saved is not the task's any more; a task that is deleted leaves all it had."""
        try:
            return (await self._repository.get(task_id)).first_attempt
        except NotFound:
            return 0

    async def _result(self, task_id: uuid.UUID, field: str) -> ArtifactFacts:
        task = await self._repository.get(task_id)
        if not task.artifact:
            text = f"{task.name} is {task.state.value} and has no result; name a checkpoint: {task.name}@step-N"
            raise InvalidArgument(Violation(field, text))
        return await self._storage.artifact(task.artifact)
