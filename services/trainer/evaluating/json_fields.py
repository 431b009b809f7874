"""How much of a JSON object another one has."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from services.common.grading.words import json_meaning, json_value, normalised


def json_valid(answer: str) -> float:
    """1 when the whole answer is JSON, else 0."""
    return float(json_value(answer) is not None or answer.strip() == "null")


def json_field_f1(answer: str, reference: str) -> float:
    """F1 of the values in common, each with the keys that lead to it, lists in any order; 0 unless both texts are JSON."""
    ours, theirs = json_meaning(answer), json_meaning(reference)
    if ours is None or theirs is None:
        return 0.0
    found, known = Counter(_leaves(ours)), Counter(_leaves(theirs))
    return 2 * (found & known).total() / (found.total() + known.total())


def has_fields(text: str) -> bool:
    """Whether a text is a JSON object or a list of such, as calls of tools are."""
    value = json_value(text)
    objects = value if isinstance(value, list) and value else [value]
    return all(isinstance(each, dict) for each in objects)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, value as text) of everything that has no parts; an empty object or list is one of these."""
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from _leaves(part, f"{path}/{key}")
    elif isinstance(value, list) and value:
        for part in value:
            yield from _leaves(part, f"{path}/[]")
    else:
        yield path, f'"{normalised(value)}"' if isinstance(value, str) else json.dumps(value)
