"""Events of a task as OpenAI's job events; used by events."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from services.gateway import identifiers
from services.gateway.job_conversion import JobConversion
from tunesmith.v1.task_event_pb2 import TaskEvent
from tunesmith.v1.task_pb2 import Task

_Told = tuple[str, str, dict[str, Any]]
"""Level, message, data."""

# Log lines are not among them: there may be thousands, and OpenAI has none.
KINDS = (
    TaskEvent.STATE_CHANGE,
    TaskEvent.STEP_METRICS,
    TaskEvent.TRAINING_STARTED,
    TaskEvent.ARTIFACT_CREATED,
    TaskEvent.ANOMALY,
    TaskEvent.CHECKPOINT_SAVED,
)
_METRICS = {
    "loss": "train_loss",
    "token_accuracy": "train_mean_token_accuracy",
    "eval_loss": "valid_loss",
    "eval_token_accuracy": "valid_mean_token_accuracy",
}


class EventConversion:
    """The events of one task."""

    def __init__(self, task: Task, jobs: JobConversion) -> None:
        self._task = task
        self._jobs = jobs

    def event(self, event: TaskEvent) -> dict[str, Any]:
        """The object; `data` holds what the message says in numbers."""
        level, message, data = self._told(event)
        return {
            "id": identifiers.event_id(self._task.name, event.sequence),
            "object": "fine_tuning.job.event",
            "created_at": event.time.seconds,
            "level": level,
            "message": message,
            "type": "metrics" if event.HasField("step_metrics") else "message",
            "data": {**data, "sequence": event.sequence, "attempt": event.attempt},
        }

    def _told(self, event: TaskEvent) -> _Told:
        kind = event.WhichOneof("event")
        if kind == "artifact_created":
            model = self._jobs.tuned_model(self._task)
            return "info", f"New fine-tuned model created: {model}", {"fine_tuned_model": model}
        return _TOLD[kind](event) if kind in _TOLD else ("info", "An event of a kind this gateway does not know", {})


def _state_change(event: TaskEvent) -> _Told:
    change = event.state_change
    state, failed = Task.State.Name(change.to_state).lower(), change.to_state == Task.FAILED
    reason = change.error.message if failed and change.error.message else change.reason
    return "error" if failed else "info", f"{state.capitalize()}: {reason}", {"state": state}


def _step_metrics(event: TaskEvent) -> _Told:
    metrics = event.step_metrics
    return "info", f"Step {metrics.step}: {_numbers(metrics.values)}", metrics_data(metrics.step, metrics.values)


def _training_started(event: TaskEvent) -> _Told:
    started = event.training_started
    data = {"total_steps": started.total_steps, "example_count": started.example_count}
    return "info", f"Training begins: {started.total_steps} steps, {started.example_count} examples", data


def _anomaly(event: TaskEvent) -> _Told:
    return "warn", event.anomaly.message, {"code": event.anomaly.reason.lower(), "step": event.anomaly.step}


def _checkpoint_saved(event: TaskEvent) -> _Told:
    step = event.checkpoint_saved.step
    return "info", f"Checkpoint created at step {step}", {"step": step}


_TOLD: dict[str, Callable[[TaskEvent], _Told]] = {
    "state_change": _state_change,
    "step_metrics": _step_metrics,
    "training_started": _training_started,
    "anomaly": _anomaly,
    "checkpoint_saved": _checkpoint_saved,
}


def metrics_data(step: int, values: Mapping[str, float]) -> dict[str, Any]:
    """Values by OpenAI's names where it has one, else by ours. JSON has no NaN: such values are strings."""
    return {"step": step, **{_METRICS.get(name, name): number(value) for name, value in sorted(values.items())}}


def number(value: float) -> float | str:
    """The value, or `NaN`, `Infinity`, `-Infinity` as a string."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _numbers(values: Mapping[str, float]) -> str:
    told = [f"{name.replace('_', ' ')} {values[key]:.4g}" for key, name in _METRICS.items() if key in values]
    return ", ".join(told) or "measured"
