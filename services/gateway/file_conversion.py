"""Datasets as OpenAI's file objects; used by files and uploads."""

from typing import Any

from services.gateway import identifiers
from tunesmith.v1.dataset_pb2 import Dataset

FINE_TUNE = "fine-tune"
RESULTS = "fine-tune-results"


def file_object(dataset: Dataset) -> dict[str, Any]:
    """A dataset is checked while it is uploaded, so a file that exists is `processed`."""
    return {
        "id": identifiers.file_id(dataset.name),
        "object": "file",
        "bytes": dataset.size_bytes,
        "created_at": dataset.create_time.seconds,
        "expires_at": dataset.expire_time.seconds if dataset.HasField("expire_time") else None,
        "filename": dataset.display_name,
        "purpose": FINE_TUNE,
        "status": "processed",
        "status_details": None,
        "tunesmith": {
            "dataset": dataset.name,
            "format": Dataset.Format.Name(dataset.format).lower(),
            "example_count": dataset.statistics.example_count,
            "warnings": [warning.message for warning in dataset.warnings],
        },
    }


def results_object(task: str, *, size: int, created_at: int) -> dict[str, Any]:
    """The numbers of a job as a file."""
    return {
        "id": identifiers.results_id(task),
        "object": "file",
        "bytes": size,
        "created_at": created_at,
        "expires_at": None,
        "filename": "step_metrics.csv",
        "purpose": RESULTS,
        "status": "processed",
        "status_details": None,
    }
