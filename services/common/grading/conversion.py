"""From the messages of graders and sampling numbers to values; used at the edges of task manager and trainer."""

from collections.abc import Iterable
from typing import Any

from services.common.grading.graders import (
    OUTPUT,
    REFERENCE,
    Grader,
    Multi,
    Python,
    ScoreModel,
    StringCheck,
    TextSimilarity,
    Turn,
    Unknown,
)
from services.common.grading.sampling import Sampling
from tunesmith.v1 import grader_pb2, sampling_pb2


def graders_from_proto(messages: Iterable[grader_pb2.Grader]) -> tuple[Grader, ...]:
    """In their order; nothing is checked."""
    return tuple(_grader(message) for message in messages)


def sampling_from_proto(message: sampling_pb2.Sampling) -> Sampling:
    """With the defaults; nothing is checked."""
    names = [field.name for field in message.DESCRIPTOR.fields if not field.is_repeated]
    given = {name: getattr(message, name) for name in names if message.HasField(name)}  # type: ignore[arg-type]
    return Sampling(**given, stop=tuple(message.stop))


def _grader(message: grader_pb2.Grader) -> Grader:
    match message.WhichOneof("kind"):
        case "string_check":
            check = message.string_check
            operation = _name(grader_pb2.StringCheck.Operation, check.operation)
            return StringCheck(message.name, check.input or OUTPUT, check.reference or REFERENCE, operation)
        case "text_similarity":
            return _similarity(message.name, message.text_similarity)
        case "score_model":
            return _score_model(message.name, message.score_model)
        case "multi":
            multi = message.multi
            return Multi(message.name, graders_from_proto(multi.graders), multi.calculate_output, _threshold(multi))
        case "python":
            return Python(message.name)
    return Unknown(message.name)


def _similarity(name: str, message: grader_pb2.TextSimilarity) -> TextSimilarity:
    metric = _name(grader_pb2.TextSimilarity.Metric, message.metric)
    return TextSimilarity(name, message.input or OUTPUT, message.reference or REFERENCE, metric, _threshold(message))


def _score_model(name: str, message: grader_pb2.ScoreModel) -> ScoreModel:
    return ScoreModel(
        name,
        message.model,
        tuple(Turn(turn.role, turn.content) for turn in message.input),
        range_min=message.range_min,
        range_max=message.range_max if message.HasField("range_max") else 1.0,
        pass_threshold=_threshold(message),
        max_tokens=message.max_tokens if message.HasField("max_tokens") else 64,
        labels=tuple(message.labels),
        passing_labels=tuple(message.passing_labels),
    )


def _threshold(message: Any) -> float | None:
    return float(message.pass_threshold) if message.HasField("pass_threshold") else None


def _name(names: Any, number: int) -> str:
    return str(names.Name(number)) if number and number in names.values() else ""
