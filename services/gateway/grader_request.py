"""POST /v1/fine_tuning/alpha/graders/run and /validate as graders and what they grade; every field that is read."""

import json
from collections.abc import Iterator
from typing import Any

from services.common.grading import template
from services.common.grading.conversion import graders_from_proto
from services.common.grading.grade import sample_values
from services.common.grading.graders import Grader, Multi, ScoreModel, StringCheck, TextSimilarity
from services.common.grading.template import MissingReference
from services.gateway.bodies import Body, optional, required
from services.gateway.failures import refused
from services.gateway.grader_checks import refuse_senseless
from services.gateway.grader_form import grader_of
from services.gateway.unsupported import refuse_present

LONGEST_TEXT = 100_000
"""Characters of the answer, of the item as JSON, and of every text that is made of them."""
REFUSED = {"reference_answer": "is the old form; give it as a key of item and refer to it as {{item.KEY}}"}
_READ = ("grader", "item", "model_sample")
# A grader that stands alone may be called anything: nothing refers to it.
_NAME = "grader"


def grader(body: Body) -> Grader:
    """The grader, checked; raises InvalidArgument naming the place."""
    given = required(body, "grader", dict)
    required(given, "name", str, "grader.")
    found = graders_from_proto([grader_of(given, "grader", _NAME)])
    refuse_senseless(found, ["grader"])
    return found[0]


def values(body: Body) -> dict[str, Any]:
    """What the references of a grader may name; raises InvalidArgument."""
    refuse_present(body, REFUSED)
    answer = optional(body, "model_sample", str)
    if answer is None:
        raise refused("model_sample", "is required")
    item = optional(body, "item", dict) or {}
    for name, text in (("model_sample", answer), ("item", json.dumps(item))):
        if len(text) > LONGEST_TEXT:
            raise refused(name, f"has {len(text):,} characters; at most {LONGEST_TEXT:,} are permitted")
    return {"item": item, "sample": sample_values(answer)}


def refuse_long(asked: Grader, known: dict[str, Any]) -> None:
    """Raises InvalidArgument when a text with its references replaced is longer than what is compared in one request."""
    for text in _texts(asked):
        try:
            length = len(template.render(text, known))
        except MissingReference:
            continue
        if length > LONGEST_TEXT:
            raise refused("grader", f"makes a text of {length:,} characters; at most {LONGEST_TEXT:,} are permitted")


def ignored(body: Body) -> list[str]:
    """What the body has beyond what is read; it is told in a header."""
    return sorted(set(body) - {*_READ, *REFUSED})


def _texts(asked: Grader) -> Iterator[str]:
    if isinstance(asked, StringCheck | TextSimilarity):
        yield from (asked.input, asked.reference)
    elif isinstance(asked, ScoreModel):
        yield from (turn.content for turn in asked.input)
    elif isinstance(asked, Multi):
        for each in asked.graders:
            yield from _texts(each)
