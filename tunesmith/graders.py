"""Graders from plain values, in the form OpenAI writes them; used by the SDK and the command line."""

from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.errors import InvalidArgument
from tunesmith.names import enum_value, model_name
from tunesmith.v1.grader_pb2 import Grader, GraderMessage, MultiGrader, PythonGrader, ScoreModel, StringCheck, TextSimilarity


def grader(given: Mapping[str, Any]) -> Grader:
    """One grader from `{"type": "string_check", "name": …, "operation": "eq", …}` and the like, see docs/how-to/evaluate.md.

    Raises:
        InvalidArgument: GRADER_UNKNOWN, GRADER_MALFORMED.
    """
    if not isinstance(given, Mapping):
        message = f"a grader is an object, not {given!r:.80}"
        raise InvalidArgument(message, reason="GRADER_MALFORMED", hint="See docs/how-to/evaluate.md.")
    kind = str(given.get("type", ""))
    if kind not in _READERS:
        # Of type python a grader can be written down, but no server runs one.
        known = ", ".join(each for each in _READERS if each != "python")
        raise InvalidArgument(f"{kind!r} is no type of grader; known: {known}", reason="GRADER_UNKNOWN", hint=f"Use {known}.")
    try:
        return _READERS[kind](str(given.get("name", "")), given)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        message = f"the grader {given.get('name')!r} of type {kind} cannot be read: {error!r}"
        raise InvalidArgument(message, reason="GRADER_MALFORMED", hint="See docs/how-to/evaluate.md.") from error


def _string_check(name: str, given: Mapping[str, Any]) -> Grader:
    operation = enum_value(StringCheck.Operation, given.get("operation", "eq"), "GRADER_MALFORMED")
    check = StringCheck(input=given.get("input", ""), reference=given.get("reference", ""), operation=operation)
    return Grader(name=name, string_check=check)


def _text_similarity(name: str, given: Mapping[str, Any]) -> Grader:
    metric = enum_value(TextSimilarity.Metric, given["evaluation_metric"], "GRADER_MALFORMED")
    similarity = TextSimilarity(
        input=given.get("input", ""),
        reference=given.get("reference", ""),
        metric=metric,
        pass_threshold=given.get("pass_threshold"),
    )
    return Grader(name=name, text_similarity=similarity)


def _score_model(name: str, given: Mapping[str, Any]) -> Grader:
    low, high = given.get("range") or (None, None)
    turns = [GraderMessage(role=turn["role"], content=_text(turn["content"])) for turn in given["input"]]
    score = ScoreModel(
        model=model_name(given["model"]),
        input=turns,
        range_min=low,
        range_max=high,
        pass_threshold=given.get("pass_threshold"),
        max_tokens=_max_tokens(given),
    )
    return Grader(name=name, score_model=score)


def _max_tokens(given: Mapping[str, Any]) -> int | None:
    """In OpenAI's place for it, or as the message calls it."""
    numbers = given.get("sampling_params") or {}
    if numbers.get("temperature"):
        raise ValueError("temperature is not 0: graders are asked for the likeliest answer")
    for name in ("max_completions_tokens", "max_completion_tokens"):
        if numbers.get(name) is not None:
            return int(numbers[name])
    return given.get("max_tokens")


def _label_model(name: str, given: Mapping[str, Any]) -> Grader:
    found = _score_model(name, given)
    found.score_model.labels.extend(given["labels"])
    found.score_model.passing_labels.extend(given["passing_labels"])
    return found


def _multi(name: str, given: Mapping[str, Any]) -> Grader:
    # OpenAI's schema has a single grader there, its guide an object of them.
    found = given["graders"]
    by_name = {found["name"]: found} if isinstance(found.get("type"), str) else found
    parts = [grader({**part, "name": key}) for key, part in by_name.items()]
    multi = MultiGrader(graders=parts, calculate_output=given["calculate_output"], pass_threshold=given.get("pass_threshold"))
    return Grader(name=name, multi=multi)


def _python(name: str, given: Mapping[str, Any]) -> Grader:
    return Grader(name=name, python=PythonGrader(source=given.get("source", "")))


_READERS = {
    "string_check": _string_check,
    "text_similarity": _text_similarity,
    "score_model": _score_model,
    "label_model": _label_model,
    "multi": _multi,
    "python": _python,
}


def _text(content: str | Mapping[str, Any] | Sequence[Any]) -> str:
    """Of a text, or of OpenAI's parts of one."""
    if isinstance(content, str):
        return content
    return str(content["text"]) if isinstance(content, Mapping) else "".join(_text(part) for part in content)
