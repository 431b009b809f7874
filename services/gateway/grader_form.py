"""Graders as OpenAI writes them, as messages; used by graders and evals. Every refusal names the place as the caller wrote it."""

import sys
from collections.abc import Mapping
from typing import Any

from services.gateway.bodies import in_32_bits, optional, required
from services.gateway.failures import refused
from services.gateway.unsupported import refuse_present
from tunesmith.v1.grader_pb2 import Grader, GraderMessage, MultiGrader, ScoreModel, StringCheck, TextSimilarity

Given = Mapping[str, Any]

_UNSUPPORTED = "UNSUPPORTED_PARAMETER"
_REFUSED = {
    "python": "graders of type python are refused: code of callers is not run here; the others compare texts or ask a model",
}
_TEXTS = ("text", "input_text", "output_text")


def grader_of(given: Any, path: str, name: str) -> Grader:
    """One grader, called `name`; `path` is where it stands. What it means is not checked. Raises InvalidArgument."""
    if not isinstance(given, dict):
        raise refused(path, "is not an object")
    kind = required(given, "type", str, f"{path}.")
    if kind not in _READERS:
        known = ", ".join(_READERS)
        raise refused(f"{path}.type", _REFUSED.get(kind, f"{kind[:40]!r} is none of {known}"), reason=_UNSUPPORTED)
    return _READERS[kind](name, given, f"{path}.")


def _string_check(name: str, given: Given, path: str) -> Grader:
    operation = _value(StringCheck.Operation, given, "operation", path)
    return Grader(name=name, string_check=StringCheck(**_compared(given, path), operation=operation))


def _text_similarity(name: str, given: Given, path: str) -> Grader:
    metric = _value(TextSimilarity.Metric, given, "evaluation_metric", path)
    similarity = TextSimilarity(**_compared(given, path), metric=metric, pass_threshold=_threshold(given, path))
    return Grader(name=name, text_similarity=similarity)


def _score_model(name: str, given: Given, path: str) -> Grader:
    turns = required(given, "input", list, path)
    low, high = _range(given, path)
    score = ScoreModel(
        model=required(given, "model", str, path),
        input=[turn_of(turn, f"{path}input[{index}]") for index, turn in enumerate(turns)],
        range_min=low,
        range_max=high,
        pass_threshold=_threshold(given, path),
        max_tokens=_max_tokens(given, path),
    )
    return Grader(name=name, score_model=score)


def _label_model(name: str, given: Given, path: str) -> Grader:
    grader = _score_model(name, given, path)
    for field in ("labels", "passing_labels"):
        labels = required(given, field, list, path)
        for index, label in enumerate(labels):
            if not isinstance(label, str):
                raise refused(f"{path}{field}[{index}]", "is not a string")
        getattr(grader.score_model, field).extend(labels)
    return grader


def _multi(name: str, given: Given, path: str) -> Grader:
    parts = [grader_of(part, f"{path}graders.{key}", key) for key, part in _parts(given, path).items()]
    formula = required(given, "calculate_output", str, path)
    multi = MultiGrader(graders=parts, calculate_output=formula, pass_threshold=_threshold(given, path))
    return Grader(name=name, multi=multi)


_READERS = {
    "string_check": _string_check,
    "text_similarity": _text_similarity,
    "score_model": _score_model,
    "label_model": _label_model,
    "multi": _multi,
}


def _parts(given: Given, path: str) -> Given:
    """By name. OpenAI's schema has a single grader there, its guide an object of them."""
    parts: dict[str, Any] = required(given, "graders", dict, path)
    return {str(parts.get("name", "")): parts} if isinstance(parts.get("type"), str) else parts


def _compared(given: Given, path: str) -> dict[str, str]:
    return {name: required(given, name, str, path) for name in ("input", "reference")}


def _value(enum: Any, given: Given, name: str, path: str) -> Any:
    word = required(given, name, str, path)
    known = [each.lower() for each in enum.keys()[1:]]
    if word not in known:
        raise refused(path + name, f"{word[:40]!r} is none of {', '.join(known)}")
    return enum.Value(word.upper())


def _range(given: Given, path: str) -> tuple[float | None, float | None]:
    limits = optional(given, "range", list, path)
    if limits is None:
        return None, None
    if len(limits) != 2 or not all(map(_is_finite, limits)):
        raise refused(path + "range", "is not an array of two numbers")
    return limits[0], limits[1]


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _threshold(given: Given, path: str) -> float | None:
    threshold: float | None = optional(given, "pass_threshold", float, path)
    return threshold


def _max_tokens(given: Given, path: str) -> int | None:
    """`seed` and `top_p` change nothing where always the likeliest token is taken."""
    path += "sampling_params."
    numbers = optional(given, "sampling_params", dict, path.rstrip(".")) or {}
    refuse_present(numbers, {"reasoning_effort": "models are asked without it"}, path)
    if optional(numbers, "temperature", float, path):
        raise refused(path + "temperature", "is not 0: graders are asked for the likeliest answer", reason=_UNSUPPORTED)
    for name in ("max_completions_tokens", "max_completion_tokens"):
        if (longest := optional(numbers, name, int, path)) is not None:
            return in_32_bits(path + name, longest)
    return None


def turn_of(given: Any, path: str) -> GraderMessage:
    """A turn of a conversation whose text may hold references; raises InvalidArgument."""
    if not isinstance(given, dict):
        raise refused(path, "is not an object")
    role = required(given, "role", str, f"{path}.")
    return GraderMessage(role="system" if role == "developer" else role, content=text_of(given.get("content"), f"{path}.content"))


def text_of(content: Any, path: str) -> str:
    """A text, or the texts of its parts one after the other; raises InvalidArgument."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(text_of(part, f"{path}[{index}]") for index, part in enumerate(content))
    if not isinstance(content, dict):
        raise refused(path, "is neither a string, nor a part, nor an array of these")
    if content.get("type") not in _TEXTS:
        raise refused(f"{path}.type", f"only {', '.join(_TEXTS)} are supported", reason=_UNSUPPORTED)
    return str(optional(content, "text", str, f"{path}.") or "")
