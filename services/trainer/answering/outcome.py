"""What a run that asks models leaves behind for the trainer's face."""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """`kind` is a name of Artifact.Kind, `field` says what `result` is."""

    kind: str
    field: str
    result: Mapping[str, Any]
    step: int
    """Answers in all."""
    metrics: Mapping[str, float]


def write_lines(path: pathlib.Path, values: Iterable[Mapping[str, Any]]) -> None:
    """A JSON object a line; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}")
    with scratch.open("w") as file:
        for value in values:
            file.write(json.dumps(value, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    scratch.rename(path)


def save_outcome(outcome: Outcome, directory: pathlib.Path) -> None:
    """The summary among the results, then result.json, which says that everything is there."""
    write_lines(directory / "output" / "summary.json", [outcome.result])
    record = {
        "kind": outcome.kind,
        "step": outcome.step,
        "metrics": dict(outcome.metrics),
        "rendered_rows_sha256": "",
        "versions": {"tunesmith": importlib.metadata.version("tunesmith")},
        outcome.field: outcome.result,
    }
    write_lines(directory / "result.json", [record])
