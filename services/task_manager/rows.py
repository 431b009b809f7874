"""Rows of the progress table to values and back; used by the repositories."""

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Any

from services.task_manager.domain.progress import Progress


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
