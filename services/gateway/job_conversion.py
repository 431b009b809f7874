"""Tasks as OpenAI's fine-tuning jobs; used by jobs, events and models."""

from collections.abc import Callable
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from services.gateway import identifiers
from services.gateway.job_labels import MULTIPLIER, SUFFIX, metadata_of
from services.gateway.job_method import AUTO
from services.gateway.parameter_names import openai_name
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import FineTuning

_STATUS = {
    Task.QUEUED: "queued",
    Task.STARTING: "running",
    Task.RUNNING: "running",
    Task.PAUSING: "running",
    Task.PAUSED: "paused",
    Task.CANCELLING: "running",  # it may still succeed or fail, and who polls stops at the first final status
    Task.SUCCEEDED: "succeeded",
    Task.FAILED: "failed",
    Task.CANCELLED: "cancelled",
}
_METHODS = {FineTuning.SFT: "supervised", FineTuning.DPO: "dpo"}


class JobConversion:
    """`now` is the clock in seconds, for the estimate of the end."""

    def __init__(self, organization: str, now: Callable[[], float]) -> None:
        self._organization = organization
        self._now = now

    def tuned_model(self, task: Task) -> str:
        """The name of what the task makes."""
        return identifiers.tuned_model_id(*self._parts(task))

    def long_tuned_model(self, task: Task) -> str:
        """The name that no other task can share."""
        return identifiers.long_tuned_model_id(*self._parts(task))

    def job(self, task: Task) -> dict[str, Any]:
        """The whole object."""
        spec, succeeded = task.spec.fine_tuning, task.state == Task.SUCCEEDED
        numbers = _hyperparameters(task)
        return {
            "id": identifiers.job_id(task.name),
            "object": "fine_tuning.job",
            "created_at": task.create_time.seconds,
            "finished_at": _seconds(task, "end_time"),
            "estimated_finish": self._estimate(task),
            "error": _error(task),
            "fine_tuned_model": self.tuned_model(task) if succeeded else None,
            "model": spec.base_model.removeprefix("baseModels/"),
            "organization_id": self._organization,
            "status": _STATUS.get(task.state, "queued"),
            "hyperparameters": numbers,
            "method": _method(spec, task, numbers),
            "training_file": identifiers.file_id(spec.dataset or spec.mixture[0].dataset),
            "validation_file": identifiers.file_id(spec.validation_dataset) if spec.validation_dataset else None,
            "result_files": [identifiers.results_id(task.name)] if succeeded else [],
            "trained_tokens": int(task.progress.metrics["tokens"]) if succeeded and "tokens" in task.progress.metrics else None,
            "seed": task.effective_hyperparameters.seed,
            "integrations": [],
            "metadata": metadata_of(task.labels) or None,
            "tunesmith": _ours(task),
        }

    def _parts(self, task: Task) -> tuple[str, str, str, str]:
        return task.spec.fine_tuning.base_model, self._organization, task.labels.get(SUFFIX, ""), task.name

    def _estimate(self, task: Task) -> int | None:
        if task.state != Task.RUNNING or not task.progress.HasField("remaining"):
            return None
        return round(self._now() + task.progress.remaining.ToTimedelta().total_seconds())


def _hyperparameters(task: Task) -> dict[str, Any]:
    """As resolved; `auto` where a job that counts steps has no number of epochs, and where nobody gave a multiplier."""
    numbers, asked = task.effective_hyperparameters, task.spec.fine_tuning.hyperparameters
    multiplier = task.labels.get(MULTIPLIER, "")
    return {
        "n_epochs": AUTO if asked.HasField("max_steps") else _whole(numbers.num_train_epochs),
        "batch_size": numbers.global_batch_size,
        "learning_rate_multiplier": float(multiplier) if multiplier else AUTO,
    }


def _method(spec: FineTuning, task: Task, numbers: dict[str, Any]) -> dict[str, Any] | None:
    """None for a method OpenAI has no name for; `tunesmith.method` tells it."""
    kind = _METHODS.get(spec.method)
    preference = task.effective_hyperparameters.preference
    if kind == "dpo" and preference.HasField("beta"):
        numbers = {**numbers, "beta": preference.beta}
    return {"type": kind, kind: {"hyperparameters": numbers}} if kind else None


def _ours(task: Task) -> dict[str, Any]:
    spec = task.spec.fine_tuning
    return {
        "task": task.name,
        "display_name": task.display_name,
        "state": Task.State.Name(task.state).lower(),
        "state_reason": task.state_reason,
        "method": FineTuning.Method.Name(spec.method).lower(),
        "tuning": FineTuning.Tuning.Name(spec.tuning).lower(),
        "artifact": task.artifact or None,
        "step": task.progress.step,
        "total_steps": task.progress.total_steps,
        "learning_rate": task.effective_hyperparameters.learning_rate,
    }


def _error(task: Task) -> dict[str, str | None] | None:
    if not task.HasField("error"):
        return None
    message = f"{task.error.message} {task.error.hint}".strip()
    field = task.error.metadata.get("field", "")
    return {"code": task.error.reason.lower(), "message": message, "param": openai_name(field) if field else None}


def _seconds(task: Task, field: str) -> int | None:
    time: Timestamp = getattr(task, field)
    return time.seconds if task.HasField(field) else None  # type: ignore[arg-type]


def _whole(epochs: float) -> int | float:
    return int(epochs) if epochs == int(epochs) else epochs
