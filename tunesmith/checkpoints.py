"""Verbs that go on from what a task has learned: checkpoints, another try, a copy; part of `tunesmith.Client`."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith import hyperparameters as hp
from tunesmith.errors import InvalidArgument
from tunesmith.names import resource_name
from tunesmith.tasks import TaskVerbs
from tunesmith.v1.task_manager_service_pb2 import (
    Checkpoint,
    CreateTaskRequest,
    ListCheckpointsRequest,
    RetryTaskRequest,
    SaveCheckpointRequest,
    SaveCheckpointResponse,
)
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import Hyperparameters

Numbers = Mapping[str, Any] | Hyperparameters | None
"""As in `hyperparameters.build`."""


class CheckpointVerbs(TaskVerbs):
    """Never lose what was learned."""

    def retry_task(
        self,
        name: str,
        *,
        hyperparameters: Numbers = None,
        from_start: bool = False,
        request_id: str | None = None,
    ) -> Task:
        """Queue a FAILED or CANCELLED task again; it continues from its last checkpoint, with `hyperparameters` changed.

        Raises:
            InvalidArgument: a number that cannot change while continuing; `from_start` permits it.
        """
        numbers = _numbers(hyperparameters)
        request = RetryTaskRequest(
            name=resource_name("tasks", name),
            hyperparameters=numbers,
            from_start=from_start,
            request_id=request_id or str(uuid.uuid4()),
        )
        return self.connection("task_manager").call(self._tasks.RetryTask, request)

    def clone_task(
        self,
        name: str,
        *,
        display_name: str | None = None,
        hyperparameters: Numbers = None,
        request_id: str | None = None,
    ) -> Task:
        """Queue a new task with the description of another one, `hyperparameters` changed."""
        numbers = _numbers(hyperparameters)
        model = self.get_task(name)
        task = cloned(model, display_name, numbers)
        request = CreateTaskRequest(task=task, request_id=request_id or str(uuid.uuid4()), cloned_from=model.name)
        return self.connection("task_manager").call(self._tasks.CreateTask, request)

    def save_checkpoint(self, name: str, label: str = "") -> SaveCheckpointResponse:
        """Ask a running task for a checkpoint after the step under way; its CHECKPOINT_SAVED event tells that there is one."""
        request = SaveCheckpointRequest(name=resource_name("tasks", name), label=label)
        return self.connection("task_manager").call(self._tasks.SaveCheckpoint, request)

    def list_checkpoints(self, name: str) -> Sequence[Checkpoint]:
        """The committed checkpoints of a task, newest step first."""
        request = ListCheckpointsRequest(name=resource_name("tasks", name))
        return self.connection("task_manager").call(self._tasks.ListCheckpoints, request).checkpoints


def cloned(model: Task, display_name: str | None, numbers: Hyperparameters) -> Task:
    """A new task with the description of `model`, `numbers` over its own."""
    task = Task(display_name=display_name or model.display_name, description=model.description, spec=model.spec)
    task.labels.update(model.labels)
    task.priority = model.priority
    if task.spec.HasField("fine_tuning"):
        hp.merge(task.spec.fine_tuning.hyperparameters, numbers)
    elif numbers.ByteSize():
        # To name its numbers would make it a fine-tuning.
        raise InvalidArgument(f"{model.name} is no fine-tuning and has no hyperparameters", reason="HYPERPARAMETER_UNKNOWN")
    return task


def _numbers(given: Numbers) -> Hyperparameters:
    return given if isinstance(given, Hyperparameters) else hp.build(given or {})
