"""What the process reads as config.json; written by the trainer's face."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

from services.common.grading.conversion import graders_from_proto, sampling_from_proto
from services.common.grading.graders import Grader
from services.common.grading.sampling import Sampling
from tunesmith.v1 import evaluation_pb2, generation_pb2

ADDRESS, API_KEY, TLS_CA = "TUNESMITH_RUN_INFERENCE_ADDRESS", "TUNESMITH_RUN_INFERENCE_API_KEY", "TUNESMITH_RUN_INFERENCE_TLS_CA"
"""Environment of the process; the key is in no file."""


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What is the same for both kinds of runs."""

    directory: pathlib.Path
    """Of the run."""
    data: pathlib.Path
    """The rows, a JSON object a line."""
    sampling: Sampling
    max_rows: int | None
    system_prompt: str
    at_once: int
    """Questions at the same time."""

    @property
    def answers(self) -> pathlib.Path:
        """Where answers are kept until the end."""
        return self.directory / "answers"

    @property
    def output(self) -> pathlib.Path:
        """What becomes the artifact."""
        return self.directory / "output"


@dataclasses.dataclass(frozen=True, slots=True)
class EvaluationConfig(Asked):
    """An evaluation; the first model is what the others are compared with."""

    models: tuple[str, ...]
    graders: tuple[Grader, ...]
    trained_on: Mapping[str, Mapping[str, pathlib.Path]]
    """For each model that says so: its datasets by name, with their rows."""


@dataclasses.dataclass(frozen=True, slots=True)
class GenerationConfig(Asked):
    """A generation."""

    model: str


def load_config(path: pathlib.Path) -> EvaluationConfig | GenerationConfig:
    """Raises OSError and ValueError when the file is not what the face writes."""
    value = json.loads(path.read_text())
    spec = value["spec"]
    if "evaluation" in spec:
        return _evaluation(path.parent, value, json_format.ParseDict(spec["evaluation"], evaluation_pb2.Evaluation()))
    return _generation(path.parent, value, json_format.ParseDict(spec["generation"], generation_pb2.Generation()))


def inference_address() -> tuple[str, str, bytes | None]:
    """(address, key, PEM of the authority) from the environment; raises KeyError, OSError."""
    authority = os.environ.get(TLS_CA)
    return os.environ[ADDRESS], os.environ.get(API_KEY, ""), pathlib.Path(authority).read_bytes() if authority else None


def _evaluation(directory: pathlib.Path, value: Mapping[str, Any], spec: evaluation_pb2.Evaluation) -> EvaluationConfig:
    trained_on = {
        model: {name: pathlib.Path(path) for name, path in datasets.items()} for model, datasets in value["trained_on"].items()
    }
    models, graders = tuple(spec.models), graders_from_proto(spec.graders)
    return EvaluationConfig(**_asked(directory, value, spec), models=models, graders=graders, trained_on=trained_on)


def _generation(directory: pathlib.Path, value: Mapping[str, Any], spec: generation_pb2.Generation) -> GenerationConfig:
    return GenerationConfig(**_asked(directory, value, spec), model=spec.model)


def _asked(
    directory: pathlib.Path, value: Mapping[str, Any], spec: evaluation_pb2.Evaluation | generation_pb2.Generation
) -> dict[str, Any]:
    return {
        "directory": directory,
        "data": pathlib.Path(value["data"]),
        "sampling": sampling_from_proto(spec.sampling),
        "max_rows": spec.max_rows if spec.HasField("max_rows") else None,
        "system_prompt": spec.system_prompt,
        "at_once": int(value["at_once"]),
    }
