"""A generation: a model answers every row, and the conversations with their answers become a dataset."""

import asyncio
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from services.common.errors import ServiceError
from services.trainer.answering.answer_file import AnswerFile
from services.trainer.answering.asking import Asker
from services.trainer.answering.config import GenerationConfig
from services.trainer.answering.inference import Question
from services.trainer.answering.outcome import Outcome, save_outcome, write_lines
from services.trainer.answering.reports import Progress, Reports
from services.trainer.answering.rows import read_items, to_answer
from services.trainer.evaluating.turns import answering_turn
from services.trainer.evaluating.values import Answer, Item

GENERATED = "generated.jsonl"
"""The rows of the new dataset, in the run's directory."""
ANSWERS = "answers.jsonl"
"""A line for every row, answered or not, among the results."""
CANCEL = "cancel"
"""Is in the run's directory when the task was cancelled."""
_MOST_FAILED = 100


async def generate(config: GenerationConfig, asker: Asker, reports: Reports, clock: Callable[[], float]) -> Outcome:
    """Until the result files are written. Raises the first ServiceError that concerns more than a row, OSError.

    Rows are read as they are needed: a dataset may be larger than memory.
    """
    total = sum(1 for _ in _items(config))
    if not total:
        raise ServiceError("NOTHING_TO_ASK", "the dataset has no row to answer")
    try:
        with AnswerFile.open(_answers(config), await asker.load(config.model)) as file:
            reports.started(total, len(file), [config.model])
            progress = Progress(reports, total, len(file), clock)
            questions = map(_question, _items(config))
            await asker.answer(file.model, questions, file, config.sampling, progress.counter("model_0", len(file)))
            reports.beat(total, "busy")
            return _outcome(config, file, total)
    except asyncio.CancelledError:
        # Whoever pauses or stops the task lets it go on later.
        if (config.directory / CANCEL).exists():
            _leave(config, total)
        raise


def _leave(config: GenerationConfig, total: int) -> None:
    """Who cancels the task gets what there is, also of earlier attempts."""
    try:
        kept = AnswerFile.reopen(_answers(config))
    except (FileNotFoundError, ValueError):
        return
    with kept as file:
        if len(file):
            save_outcome(_outcome(config, file, total), config.directory)


def _answers(config: GenerationConfig) -> pathlib.Path:
    return config.answers / "model-0.jsonl"


def _items(config: GenerationConfig) -> Iterator[Item]:
    return read_items(config.data, to_answer, most=config.max_rows, system=config.system_prompt)


def _question(item: Item) -> Question:
    """As the row asks: what is made is to be used, so strict tools are kept to."""
    choice = item.row.get("tool_choice") if item.tools else None
    return Question(item.number, item.messages, item.tools, choice, keeps_to_schemas=True)


def _outcome(config: GenerationConfig, file: AnswerFile, total: int) -> Outcome:
    """Of the rows that have their answer, or the reason why there is none: all, unless the task was cancelled."""
    counts = {"cut_count": 0, "completion_token_count": 0, "answered_count": 0}

    def asked() -> Iterator[Item]:
        return (item for item in _items(config) if item.number in file)

    def rows() -> Iterator[dict[str, Any]]:
        for item in asked():
            if (answer := _usable(file[item.number])).is_answered:
                counts["answered_count"] += 1
                counts["cut_count"] += answer.finish_reason == "LENGTH"
                counts["completion_token_count"] += answer.tokens
                yield _answered(item, answer)

    write_lines(config.directory / GENERATED, rows())
    write_lines(config.output / ANSWERS, (_told(item, _usable(file[item.number])) for item in asked()))
    answers = (_usable(file[row]) for row in range(1, total + 1) if row in file)
    failed = [{"row": each.row, "reason": each.reason, "message": each.message} for each in answers if not each.is_answered]
    write_lines(config.output / "failed.jsonl", failed)
    result = {"row_count": total, "failed_count": len(failed), "failed_rows": failed[:_MOST_FAILED], **counts}
    return Outcome("GENERATION", "generation", result, step=len(file), metrics={name: float(n) for name, n in counts.items()})


def _answered(item: Item, answer: Answer) -> dict[str, Any]:
    """A row of the new dataset."""
    beside = {key: item.row[key] for key in ("tools", "parallel_tool_calls") if item.row.get(key) is not None}
    return {"messages": [*item.messages, answering_turn(answer.text, answer.tool_calls)], **beside}


def _told(item: Item, answer: Answer) -> dict[str, Any]:
    """What came of a row; `label` is that of a row of format LABELED, by which whoever asked knows it."""
    told: dict[str, Any] = {"row": item.number} | ({"label": item.row["label"]} if "label" in item.row else {})
    if not answer.is_answered:
        return told | {"reason": answer.reason, "message": answer.message}
    counts = {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.tokens}
    calls = {"tool_calls": answer.tool_calls} if answer.tool_calls else {}
    return told | {"text": answer.text, **calls, "finish_reason": answer.finish_reason, **counts}


def _usable(answer: Answer) -> Answer:
    """A row of training data has an answer that says something and holds no NUL character."""
    names = [call["function"]["name"] for call in answer.tool_calls]
    is_empty = not answer.said.strip() or not all(names)
    if answer.is_answered and (is_empty or any("\0" in text for text in (answer.text, *names))):
        what = "is empty" if is_empty else "holds a NUL character"
        return Answer(answer.row, reason="ANSWER_UNUSABLE", message=f"the model's answer {what}")
    return answer
