"""Adds up what all models have answered in an evaluation."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from services.common.grading.graders import ScoreModel
from services.trainer.answering.answer_file import AnswerFile
from services.trainer.answering.config import EvaluationConfig
from services.trainer.answering.outcome import Outcome, write_lines
from services.trainer.answering.recorded import RECORDED, Answers
from services.trainer.evaluating.leaks import leaked
from services.trainer.evaluating.scores import Scoring
from services.trainer.evaluating.summary import Measured, summarise
from services.trainer.evaluating.values import Item

_MOST_LEAKED_ROWS = 100
_CONVERSATION = ("messages", "label", "tools", "parallel_tool_calls")


def evaluation_outcome(
    config: EvaluationConfig,
    items: Sequence[Item],
    files: Sequence[Answers],
    opinions: Mapping[tuple[ScoreModel, int], AnswerFile],
) -> Outcome:
    """The scores of all models, and a line for every row among the results."""
    scoring, measured = Scoring(items, config.graders), []
    for index, (model, file) in enumerate(zip(config.models or (RECORDED,), files, strict=True)):

        def judged(judge: ScoreModel, row: int, index: int = index) -> str | None:
            opinion = opinions[judge, index][row]
            return opinion.text if opinion.is_answered else None

        answers = {item.number: file[item.number] for item in items}
        measured.append(Measured(model, answers, scoring.columns(answers, judged)))
    result = summarise(items, scoring, measured, config.sampling.seed)
    result["leaks"] = [leak for model in config.models for leak in _leaks(config, items, model)]
    write_lines(config.output / "rows.jsonl", (_line(place, item, measured) for place, item in enumerate(items)))
    metrics = {
        f"{score['name']}_{index}": score["value"] for index, each in enumerate(result["models"]) for score in each["scores"]
    }
    return Outcome("EVALUATION", "evaluation", result, step=len(items) * len(files), metrics=metrics)


def _leaks(config: EvaluationConfig, items: Sequence[Item], model: str) -> list[dict[str, Any]]:
    found = []
    for dataset, path in config.trained_on.get(model, {}).items():
        with path.open("rb") as file:
            rows = leaked(items, map(json.loads, file))
        if rows:
            found.append({"model": model, "dataset": dataset, "row_count": len(rows), "rows": rows[:_MOST_LEAKED_ROWS]})
    return found


def _line(place: int, item: Item, models: Sequence[Measured]) -> dict[str, Any]:
    """All there is to know of a row; what it has beside its conversation as it is."""
    messages = [{"role": role, "content": text} for role, text in item.messages]
    told = [_told(each, item.number, place) for each in models]
    beside = {key: value for key, value in item.row.items() if key not in _CONVERSATION}
    return {"row": item.number, "messages": messages, "reference": item.reference, "answers": told, "beside": beside}


def _told(measured: Measured, row: int, place: int) -> dict[str, Any]:
    answer = measured.answers[row]
    scores = {column.name: column.values[place] for column in measured.columns}
    ungraded = {column.name: column.ungraded[row] for column in measured.columns if row in column.ungraded}
    said: dict[str, Any] = {"text": answer.text, "finish_reason": answer.finish_reason, "tokens": answer.tokens}
    said |= {"prompt_tokens": answer.prompt_tokens, "seconds": answer.seconds}
    if not answer.is_answered:
        said = {"error": {"reason": answer.reason, "message": answer.message}}
    return {"model": measured.model, **said, "scores": scores} | ({"ungraded": ungraded} if ungraded else {})
