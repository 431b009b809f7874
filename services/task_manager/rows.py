"""Rows of tasks and their progress to values and back; used by the repositories."""

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Any

from services.task_manager.domain.kind import Kind
from services.task_manager.domain.progress import Progress
from services.task_manager.domain.task import State, Task

TASK_SELECT = """
SELECT t.id, t.display_name, t.description, t.labels, t.spec, t.effective_hyperparameters, t.priority,
       t.origin_artifact, t.origin_task, t.origin_step, t.cloned_from, t.overrides, t.first_attempt,
       t.processes, t.not_before, t.max_attempts, t.change_xid::text, t.kind, t.memory_bytes, t.runner_labels, t.creator,
       t.state, t.state_reason, t.attempt,
       h.epoch, h.head_sequence, t.error, t.artifact, t.create_time, t.start_time, t.end_time, t.update_time,
       p.step, p.total_steps, p.epoch AS progress_epoch, p.remaining, p.metric_names, p.metric_values
FROM task_manager.task t
JOIN task_manager.event_head h ON h.task_id = t.id
LEFT JOIN task_manager.task_progress p ON p.task_id = t.id
"""


_MADE = ("state", "kind", "progress", "expected_start_time")


def task_from_row(row: Mapping[str, Any]) -> Task:
    """The task in a row of TASK_SELECT."""
    names = [field.name for field in dataclasses.fields(Task) if field.name not in _MADE]
    progress = progress_from_row(row) if row["step"] is not None else None
    return Task(**{name: row[name] for name in names}, state=State(row["state"]), kind=Kind(row["kind"]), progress=progress)


def progress_from_row(row: Mapping[str, Any]) -> Progress:
    """The progress in a row that selects the columns of task_progress, its epoch as `progress_epoch`."""
    return Progress(
        step=row["step"],
        total_steps=row["total_steps"],
        epoch=row["progress_epoch"],
        remaining=row["remaining"],
        metrics=dict(zip(row["metric_names"], row["metric_values"], strict=True)),
    )


def progress_parameters(task_id: uuid.UUID, progress: Progress) -> dict[str, Any]:
    """Named parameters for every column of task_progress."""
    fields = {field.name: getattr(progress, field.name) for field in dataclasses.fields(progress) if field.name != "metrics"}
    return fields | {
        "task_id": task_id,
        "metric_names": list(progress.metrics),
        "metric_values": list(progress.metrics.values()),
    }
