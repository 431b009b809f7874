"""All there is to know of a row that models were asked about, as a line of JSON; used by everything that keeps such rows."""

from collections.abc import Sequence
from typing import Any

from services.trainer.evaluating.summary import Measured
from services.trainer.evaluating.values import Answer, Item

_CONVERSATION = ("messages", "label", "tools", "parallel_tool_calls")


def row_line(place: int, item: Item, models: Sequence[Measured]) -> dict[str, Any]:
    """`place` is that of the row among the scores; what the row has beside its conversation comes as it is."""
    told = [_told(each, item.number, place) for each in models]
    beside = {key: value for key, value in item.row.items() if key not in _CONVERSATION}
    asked = {"messages": item.messages} | ({"tools": item.tools} if item.tools else {})
    return {"row": item.number, **asked, "reference": item.reference, "answers": told, "beside": beside}


def _told(measured: Measured, row: int, place: int) -> dict[str, Any]:
    answer = measured.answers[row]
    scores = {column.name: column.values[place] for column in measured.columns}
    ungraded = {column.name: column.ungraded[row] for column in measured.columns if row in column.ungraded}
    said: dict[str, Any] = {"text": answer.text, "finish_reason": answer.finish_reason, "tokens": answer.tokens}
    said |= {"prompt_tokens": answer.prompt_tokens, "seconds": answer.seconds}
    said |= {"tool_calls": answer.tool_calls, "said": answer.said} if answer.tool_calls else {}
    if not answer.is_answered:
        said = {"error": {"reason": answer.reason, "message": answer.message}}
    known = _known(measured.likelihoods.get(row))
    return {"model": measured.model, **said, "scores": scores, **known} | ({"ungraded": ungraded} if ungraded else {})


def _known(likelihood: Answer | None) -> dict[str, Any]:
    """How probable the known answer is: nats per token, and tokens."""
    if likelihood is None or not likelihood.is_answered:
        return {}
    return {"reference_loss": -likelihood.logprob / likelihood.tokens, "reference_tokens": likelihood.tokens}
