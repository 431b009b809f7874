"""What the process reads as config.json; written by the trainer's face."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

from services.common.errors import ServiceError
from services.common.grading.conversion import graders_from_proto, sampling_from_proto
from services.common.grading.graders import Grader
from services.common.grading.sampling import Sampling
from services.trainer.composition import Split
from tunesmith.v1 import evaluation_pb2, generation_pb2

PREFIX = "TUNESMITH_RUN_INFERENCE_"
"""Of the process' environment: ADDRESS, API_KEY and TLS_CA of the inference service, and how many QUESTIONS may be asked at once.
The key is in no file."""


@dataclasses.dataclass(frozen=True, slots=True)
class Peer:
    """The inference service."""

    address: str
    api_key: str
    tls_ca: bytes | None
    """PEM of the authority; None = no TLS."""
    questions: int
    """That may be asked at the same time."""


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
    """Empty when the answers are in the rows."""
    graders: tuple[Grader, ...]
    measures_perplexity: bool
    trained_on: Mapping[str, Mapping[str, pathlib.Path]]
    """For each model that says so: its datasets by name, with their rows."""
    steps: Mapping[str, int]
    """For each model that says so: for how many optimizer steps it was trained."""
    bounds_answers: bool = False
    """Nobody has said how long an answer may be: no longer than the longest known one needs."""
    spreads_rows: bool = False
    """Whether `max_rows` are chosen over all rows instead of the first ones."""
    splits: Mapping[str, Split] = dataclasses.field(default_factory=dict)
    """What was held out of the rows of `trained_on`, for each model that says so."""


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


def inference_service() -> Peer:
    """From the environment; raises ServiceError INFERENCE_NOT_SET, and OSError."""
    given = {name.removeprefix(PREFIX): value for name, value in os.environ.items() if name.startswith(PREFIX)}
    if not given.get("ADDRESS"):
        raise ServiceError("INFERENCE_NOT_SET", "this trainer does not know an inference service")
    authority = given.get("TLS_CA")
    pem = pathlib.Path(authority).read_bytes() if authority else None
    return Peer(given["ADDRESS"], given.get("API_KEY", ""), pem, int(given["QUESTIONS"]))


def _evaluation(directory: pathlib.Path, value: Mapping[str, Any], spec: evaluation_pb2.Evaluation) -> EvaluationConfig:
    trained_on = {
        model: {name: pathlib.Path(path) for name, path in datasets.items()} for model, datasets in value["trained_on"].items()
    }
    return EvaluationConfig(
        **_asked(directory, value, spec),
        models=tuple(spec.models),
        graders=graders_from_proto(spec.graders),
        measures_perplexity=spec.perplexity if spec.HasField("perplexity") else True,
        trained_on=trained_on,
        # A run that was prepared before an update knows none of these.
        splits={model: Split(**split) for model, split in value.get("splits", {}).items()},
        steps=value.get("steps", {}),
        spreads_rows=spec.spread_rows,
        # Graders of one's own may want to see more than the known answer has.
        bounds_answers=not spec.graders and not spec.sampling.HasField("max_tokens"),
    )


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
    }
