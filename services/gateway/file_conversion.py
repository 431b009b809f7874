"""Datasets as OpenAI's file objects; used by files and uploads."""

from typing import Any

from services.gateway import identifiers
from tunesmith.v1.dataset_pb2 import Dataset

FINE_TUNE = "fine-tune"
RESULTS = "fine-tune-results"
BATCH = "batch"
BATCH_OUTPUT = "batch_output"
EVALS = "evals"
MARKS = {BATCH: "openai.batch/", EVALS: "openai.evals/"}
"""So begins the name of a dataset whose rows were made of the lines of such a file."""
MAX_NAME = 128


def stored_name(filename: str, purpose: str) -> str:
    """What storage calls a file."""
    mark = MARKS.get(purpose, "")
    return mark + filename[-(MAX_NAME - len(mark)) :]


def purpose_of(dataset: Dataset) -> str:
    """What a file was uploaded for."""
    return next((purpose for purpose, mark in MARKS.items() if dataset.display_name.startswith(mark)), FINE_TUNE)


def file_object(dataset: Dataset) -> dict[str, Any]:
    """A dataset is checked while it is uploaded, so a file that exists is `processed`."""
    purpose = purpose_of(dataset)
    return {
        "id": identifiers.file_id(dataset.name),
        "object": "file",
        "bytes": dataset.size_bytes,
        "created_at": dataset.create_time.seconds,
        "expires_at": dataset.expire_time.seconds if dataset.HasField("expire_time") else None,
        "filename": dataset.display_name.removeprefix(MARKS.get(purpose, "")),
        "purpose": purpose,
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
    return made_object(identifiers.results_id(task), "step_metrics.csv", RESULTS, size=size, created_at=created_at)


def made_object(
    identifier: str, filename: str, purpose: str, *, size: int, created_at: int, expires_at: int | None = None
) -> dict[str, Any]:
    """A file that was not uploaded, but is written while it is read."""
    return {
        "id": identifier,
        "object": "file",
        "bytes": size,
        "created_at": created_at,
        "expires_at": expires_at,
        "filename": filename,
        "purpose": purpose,
        "status": "processed",
        "status_details": None,
    }
