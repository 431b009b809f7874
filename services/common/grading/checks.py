"""Whether graders make sense, before anything runs; used by the task manager."""

import math
import re
from collections.abc import Iterator, Sequence

from services.common.errors import Violation
from services.common.grading import arithmetic, template
from services.common.grading.arithmetic import BadExpression, Expression
from services.common.grading.graders import Grader, Multi, Python, ScoreModel, StringCheck, TextSimilarity, Unknown

BUILT_IN = (
    "exact_match",
    "f1",
    "bleu",
    "rouge_l",
    "json_valid",
    "json_field_f1",
    "perplexity",
    "preference_accuracy",
    "preference_margin",
)
"""What is measured by itself where it makes sense."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_MOST, _MOST_IN_MULTI, _MOST_TURNS = 16, 8, 16
_LONGEST_TEXT, _MOST_TOKENS = 10_000, 1_024
_MOST_LABELS, _LONGEST_LABEL = 32, 64
_ROLES = ("system", "user", "assistant")
_REFUSED_METRICS = {
    "METEOR": "METEOR needs a dictionary of synonyms, which is not there; F1 or ROUGE_L come close",
    "COSINE": "COSINE needs a model that makes vectors of texts, which is not there; F1 or FUZZY_MATCH come close",
}


def violations(graders: Sequence[Grader], field: str) -> Iterator[Violation]:
    """Everything that is wrong; `field` is the path of the list."""
    if len(graders) > _MOST:
        yield Violation(field, f"{len(graders)} graders are more than {_MOST}")
    yield from _named(graders, field, taken=BUILT_IN)
    for index, grader in enumerate(graders):
        yield from _one(grader, f"{field}[{index}]")


def _named(graders: Sequence[Grader], field: str, taken: Sequence[str]) -> Iterator[Violation]:
    seen = set(taken)
    for index, grader in enumerate(graders):
        if not _NAME.fullmatch(grader.name):
            yield Violation(f"{field}[{index}].name", f"{grader.name[:80]!r} does not match {_NAME.pattern}")
        elif grader.name in seen:
            yield Violation(f"{field}[{index}].name", f"{grader.name!r} is taken")
        seen.add(grader.name)


def _one(grader: Grader, field: str) -> Iterator[Violation]:
    match grader:
        case StringCheck():
            yield from _texts(grader, f"{field}.string_check")
            if not grader.operation:
                yield Violation(f"{field}.string_check.operation", "is required; EQ, NE, LIKE or ILIKE")
        case TextSimilarity():
            yield from _similarity(grader, f"{field}.text_similarity")
        case ScoreModel():
            yield from _score_model(grader, f"{field}.score_model")
        case Multi():
            yield from _multi(grader, f"{field}.multi")
        case Python():
            yield Violation(f"{field}.python", "code of callers is not run here; the other graders compare texts or ask a model")
        case Unknown():
            yield Violation(field, "has no kind that is known here; give string_check, text_similarity, score_model or multi")


def _texts(grader: StringCheck | TextSimilarity, field: str) -> Iterator[Violation]:
    yield from _text(grader.input, f"{field}.input")
    yield from _text(grader.reference, f"{field}.reference")


def _text(text: str, field: str) -> Iterator[Violation]:
    if len(text) > _LONGEST_TEXT:
        yield Violation(field, f"{len(text):,} characters are more than {_LONGEST_TEXT:,}")
        return
    for problem in template.problems(text):
        yield Violation(field, problem)


def _similarity(grader: TextSimilarity, field: str) -> Iterator[Violation]:
    yield from _texts(grader, field)
    if not grader.metric:
        yield Violation(f"{field}.metric", "is required")
    elif grader.metric in _REFUSED_METRICS:
        yield Violation(f"{field}.metric", _REFUSED_METRICS[grader.metric])
    yield from _threshold(grader.pass_threshold, 0.0, 1.0, field)


def _score_model(grader: ScoreModel, field: str) -> Iterator[Violation]:
    if not grader.model:
        yield Violation(f"{field}.model", "is required")
    if not 1 <= len(grader.input) <= _MOST_TURNS:
        yield Violation(f"{field}.input", f"{len(grader.input)} turns are not between 1 and {_MOST_TURNS}")
    for index, turn in enumerate(grader.input):
        if turn.role not in _ROLES:
            yield Violation(f"{field}.input[{index}].role", f"{turn.role[:40]!r} is none of {', '.join(_ROLES)}")
        yield from _text(turn.content, f"{field}.input[{index}].content")
    if grader.input and grader.input[-1].role == "assistant":
        yield Violation(f"{field}.input[{len(grader.input) - 1}].role", "the last turn is the assistant's, which is asked for")
    if grader.labels or grader.passing_labels:
        yield from _labels(grader, field)
    if not grader.range_min < grader.range_max:
        yield Violation(f"{field}.range_max", f"{grader.range_max:g} is not more than {grader.range_min:g}")
    elif math.isinf(grader.range_min) or math.isinf(grader.range_max):
        yield Violation(f"{field}.range_max", f"{grader.range_min:g} to {grader.range_max:g} is no finite range")
    if not 1 <= grader.max_tokens <= _MOST_TOKENS:
        yield Violation(f"{field}.max_tokens", f"{grader.max_tokens} is not between 1 and {_MOST_TOKENS:,}")
    yield from _threshold(grader.pass_threshold, grader.range_min, grader.range_max, field)


def _labels(grader: ScoreModel, field: str) -> Iterator[Violation]:
    if not 2 <= len(grader.labels) <= _MOST_LABELS or len(set(grader.labels)) < len(grader.labels):
        yield Violation(f"{field}.labels", f"are not 2 to {_MOST_LABELS} different texts")
    for index, label in enumerate(grader.labels):
        if not 1 <= len(label) <= _LONGEST_LABEL or label != label.strip() or not label.isprintable():
            wanted = f"is not 1 to {_LONGEST_LABEL} characters in one line without spaces around them"
            yield Violation(f"{field}.labels[{index}]", f"{label[:80]!r} {wanted}")
    if not grader.passing_labels:
        yield Violation(f"{field}.passing_labels", "is required: which labels let an answer pass?")
    for index, label in enumerate(grader.passing_labels):
        if label not in grader.labels:
            yield Violation(f"{field}.passing_labels[{index}]", f"{label[:80]!r} is none of the labels")
    if (grader.range_min, grader.range_max, grader.pass_threshold) != (0, 1, None):
        yield Violation(f"{field}.labels", "a grader with labels has no range and no pass_threshold: its number is 1 or 0")


def _multi(grader: Multi, field: str) -> Iterator[Violation]:
    if not 1 <= len(grader.graders) <= _MOST_IN_MULTI:
        yield Violation(f"{field}.graders", f"{len(grader.graders)} graders are not between 1 and {_MOST_IN_MULTI}")
    yield from _named(grader.graders, f"{field}.graders", taken=sorted(arithmetic.FUNCTIONS))
    for index, each in enumerate(grader.graders):
        if isinstance(each, Multi):
            yield Violation(f"{field}.graders[{index}]", "a multi grader holds graders of the other kinds only")
        else:
            yield from _one(each, f"{field}.graders[{index}]")
    try:
        unknown = Expression(grader.calculate_output).names - {each.name for each in grader.graders}
    except BadExpression as error:
        yield Violation(f"{field}.calculate_output", str(error))
    else:
        if unknown:
            yield Violation(f"{field}.calculate_output", f"no grader is called {', '.join(sorted(unknown))}")


def _threshold(value: float | None, least: float, most: float, field: str) -> Iterator[Violation]:
    if value is not None and not least <= value <= most:
        yield Violation(f"{field}.pass_threshold", f"{value:g} is not between {least:g} and {most:g}")
