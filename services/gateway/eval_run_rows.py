"""The rows of a run, one for every item: what the model is asked, the known answer, and the item; used by eval_run_data."""

import contextlib
import json
from typing import Any

from services.common.grading import template
from services.common.grading.template import MissingReference
from services.gateway.bodies import Body, optional
from services.gateway.eval_criteria import Criteria
from services.gateway.eval_rows import item_of
from services.gateway.eval_run_request import Prompt, RunSource
from services.gateway.failures import refused
from services.gateway.grader_form import turn_of
from services.gateway.item_schema import ItemSchema

NOTHING = "(none)"
"""Stands for a known answer that there is not, and for the question of a recorded answer: a row has to have both."""


class RunRows:
    """Rows of one run, made of its items one by one."""

    def __init__(self, source: RunSource, criteria: Criteria, schema: ItemSchema) -> None:
        self._source = source
        self._known = criteria.known_answer()
        self._needs_sample = criteria.ask_for_samples()
        self._schema = schema

    def row(self, given: Any) -> Body:
        """The row of an item; raises InvalidArgument naming the place in it."""
        line = item_of(given)
        self._schema.check(line["item"])
        line = self._asked(line) if self._source.model else self._recorded(line)
        return line | {"messages": [*line["messages"], _turn("assistant", self._known_answer(line))]}

    def _asked(self, line: Body) -> Body:
        """A sample that came with the item is none of the model that is asked."""
        turns = _turns(self._source.prompt, line)
        if turns[-1]["role"] == "assistant":
            raise refused("item", "the last message is the assistant's: there is nothing to answer")
        return {"messages": turns, "item": line["item"]}

    def _recorded(self, line: Body) -> Body:
        """An answer that no criterion refers to need not be there; one that is there may be empty."""
        sample = dict(line.get("sample") or {})
        text = optional(sample, "output_text", str, "sample.")
        if text is None and not sample.get("output_tools") and self._needs_sample:
            raise refused("sample.output_text", "is required: criteria refer to it")
        sample["output_text"] = text or ""
        return {"messages": [_turn("user", NOTHING)], "item": line["item"], "sample": sample}

    def _known_answer(self, line: Body) -> str:
        with contextlib.suppress(MissingReference):
            return template.render(self._known, line).strip() or NOTHING
        return NOTHING


def _turns(prompt: Prompt, line: Body) -> list[Body]:
    try:
        if not prompt.trajectory:
            return [_turn(turn.role, template.render(turn.content, line)) for turn in prompt.turns]
        given = template.render(prompt.trajectory, line)
    except MissingReference as error:
        raise refused("item", str(error)) from None
    return _trajectory(given, prompt.trajectory.strip("{}"))


def _trajectory(text: str, path: str) -> list[Body]:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, list) or not given:
        raise refused(path, "is no array of messages")
    turns = [turn_of(each, f"{path}[{index}]") for index, each in enumerate(given)]
    return [_turn(turn.role, turn.content) for turn in turns]


def _turn(role: str, content: str) -> Body:
    return {"role": role, "content": content}
