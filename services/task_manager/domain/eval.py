"""Evals, and the rules about them."""

import dataclasses
import datetime
import json
import uuid
from collections.abc import Iterator, Mapping

from services.common.errors import InvalidArgument, Violation
from services.task_manager.domain.validation import MAX_DISPLAY_NAME, label_violations, text_violations

_LONGEST_CONFIG, _LONGEST_CRITERIA = 65_536, 262_144


@dataclasses.dataclass(frozen=True, slots=True)
class NewEval:
    """The ask for an eval; both JSON texts are kept as they are."""

    display_name: str
    data_source_config: str
    testing_criteria: str
    labels: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Eval(NewEval):
    """One that is kept."""

    id: uuid.UUID
    create_time: datetime.datetime
    update_time: datetime.datetime


@dataclasses.dataclass(frozen=True, slots=True)
class EvalUpdate:
    """What is to be changed; None = nothing."""

    display_name: str | None
    labels: Mapping[str, str] | None


def check_new(new: NewEval) -> None:
    """Raises InvalidArgument with every violation."""
    _refuse(
        [
            *_changeable(EvalUpdate(new.display_name, new.labels)),
            *_json("eval.data_source_config", new.data_source_config, dict, _LONGEST_CONFIG),
            *_json("eval.testing_criteria", new.testing_criteria, list, _LONGEST_CRITERIA),
        ]
    )


def check_update(update: EvalUpdate) -> None:
    """Raises InvalidArgument with every violation."""
    _refuse(list(_changeable(update)))


def _refuse(violations: list[Violation]) -> None:
    if violations:
        raise InvalidArgument(*violations)


def _changeable(update: EvalUpdate) -> Iterator[Violation]:
    if update.display_name is not None:
        yield from text_violations("eval.display_name", update.display_name, 1, MAX_DISPLAY_NAME)
    yield from label_violations("eval.labels", update.labels or {})


def _json(field: str, text: str, kind: type, longest: int) -> Iterator[Violation]:
    if len(text) > longest:
        yield Violation(field, f"has {len(text):,} characters; at most {longest:,} are permitted")
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        yield Violation(field, f"is not JSON: {error}")
        return
    if not isinstance(value, kind):
        yield Violation(field, f"is not a JSON {'object' if kind is dict else 'array'}")
    if "\0" in text:
        yield Violation(field, "contains the character NUL")
