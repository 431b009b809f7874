"""An evaluation: every model answers every row, then graders that ask a model are asked about every answer."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence, Sized

from services.common.errors import ServiceError
from services.common.grading import template
from services.common.grading.graders import ScoreModel, asking
from services.common.grading.sampling import Sampling
from services.common.grading.template import MissingReference
from services.trainer.answering.answer_file import AnswerFile
from services.trainer.answering.asking import Asker
from services.trainer.answering.config import EvaluationConfig
from services.trainer.answering.evaluation_results import Judged, evaluation_outcome
from services.trainer.answering.inference import Question
from services.trainer.answering.outcome import Outcome
from services.trainer.answering.recorded import RECORDED, Answers, RecordedAnswers
from services.trainer.answering.reports import Progress, Reports
from services.trainer.answering.rows import (
    Split,
    is_preference,
    is_text,
    question_and_answer,
    question_and_worse_answer,
    read_items,
)
from services.trainer.evaluating.turns import spoken
from services.trainer.evaluating.values import Answer, Item, references

Opinions = Mapping[tuple[ScoreModel, int], AnswerFile]
"""By judge and the place of the model that is judged."""

_MARGIN = 32
"""Tokens that an answer may have beyond the longest known one, and each call in it for the marks around it."""


async def evaluate(config: EvaluationConfig, asker: Asker, reports: Reports, clock: Callable[[], float]) -> Outcome:
    """Until the result files are written. Raises the first ServiceError that concerns more than a row, OSError."""
    items = _read(config, question_and_answer)
    if not items:
        raise ServiceError("NOTHING_TO_ASK", "the dataset has no row to evaluate with")
    with contextlib.ExitStack() as stack:
        are_texts = all(is_text(item.row) for item in items)
        asked = () if are_texts else config.models
        files = [await _open(stack, config, asker, f"model-{place}", model) for place, model in enumerate(asked)]
        likelihoods = await _open_likelihoods(stack, config, asker, "known")
        worse = _worse_answers(config, items)
        unlikelihoods = await _open_likelihoods(stack, config, asker, "worse") if worse else []
        recorded = [] if config.models else [RecordedAnswers(items)]
        # Of texts nothing is asked: how probable they are is all there is to know.
        answers: Sequence[Answers] = files or recorded or likelihoods
        opinions = await _open_opinions(stack, config, asker, [file.model for file in files] or [RECORDED])
        parts: Sequence[Sized] = [*files, *recorded, *likelihoods, *unlikelihoods, *opinions.values()]
        total, done = len(parts) * len(items), sum(map(len, parts))
        reports.started(total, done, config.models or [RECORDED])
        questioning = _Questioning(config, asker, items, Progress(reports, total, done, clock))
        for place in range(len(config.models)):
            if files:
                await questioning.answer(place, files[place])
            if likelihoods:
                await questioning.know(items, place, likelihoods[place], "known")
            if unlikelihoods:
                await questioning.know(worse, place, unlikelihoods[place], "worse")
        for (judge, place), file in opinions.items():
            await questioning.judge(judge, answers[place], file)
        reports.beat(total, "busy")
        return evaluation_outcome(config, items, answers, Judged(likelihoods, unlikelihoods), opinions)


def bounded(sampling: Sampling, items: Sequence[Item]) -> Sampling:
    """With room for the longest known answer and a margin, if all are known; a token has at least one byte of the text."""
    if not all(item.reference for item in items):
        return sampling
    return dataclasses.replace(sampling, max_tokens=min(sampling.max_tokens, max(map(_length, items)) + _MARGIN))


def _length(item: Item) -> int:
    calls = item.known.get("tool_calls", ()) if item.known else ()
    return len(item.reference.encode()) + _MARGIN * len(calls)


async def _open(
    stack: contextlib.ExitStack, config: EvaluationConfig, asker: Asker, name: str, model: str, *, about: str = ""
) -> AnswerFile:
    return stack.enter_context(AnswerFile.open(config.answers / f"{name}.jsonl", await asker.load(model), about))


def _worse_answers(config: EvaluationConfig, items: Sequence[Item]) -> list[Item]:
    """Of preferences the questions with the outputs that are not preferred; of all else none."""
    if not all(is_preference(item.row) for item in items):
        return []
    return _read(config, question_and_worse_answer)


def _read(config: EvaluationConfig, split: Split) -> list[Item]:
    most, system = config.max_rows, config.system_prompt
    return list(read_items(config.data, split, most=most, system=system, spread=config.spreads_rows))


async def _open_likelihoods(
    stack: contextlib.ExitStack, config: EvaluationConfig, asker: Asker, answers: str
) -> list[AnswerFile]:
    """By the place of the model; none when perplexity is not asked for. `answers` says of which it is."""
    models = config.models if config.measures_perplexity else ()
    return [await _open(stack, config, asker, f"{answers}-{place}", model) for place, model in enumerate(models)]


async def _open_opinions(stack: contextlib.ExitStack, config: EvaluationConfig, asker: Asker, judged: Sequence[str]) -> Opinions:
    """`judged` are the models whose answers are, for an alias may point elsewhere when the run goes on."""
    judges = dict.fromkeys(asking(config.graders))
    return {
        (judge, place): await _open(stack, config, asker, f"judge-{number}-{place}", judge.model, about=about)
        for number, judge in enumerate(judges)
        for place, about in enumerate(judged)
    }


class _Questioning:
    """Asks about the rows of one evaluation."""

    def __init__(self, config: EvaluationConfig, asker: Asker, items: Sequence[Item], progress: Progress) -> None:
        self._config, self._asker, self._items, self._progress = config, asker, items, progress
        self._sampling = bounded(config.sampling, items) if config.bounds_answers else config.sampling

    async def answer(self, place: int, file: AnswerFile) -> None:
        """By the model at `place`; raises NOTHING_ANSWERED when it can answer no row at all."""
        questions = (Question(item.number, item.messages, item.tools) for item in self._items)
        counter = self._progress.counter(f"model_{place}", len(file))
        await self._asker.answer(file.model, questions, file, self._sampling, counter)
        self._require_any(place, file)

    async def know(self, items: Sequence[Item], place: int, file: AnswerFile, answers: str) -> None:
        """How probable the known answers of `items` are to the model at `place`; rows without one get the reason at once.

        `answers` says which ones they are.
        """
        counter = self._progress.counter(f"{answers}_{place}", len(file))
        for item in items:
            if not item.reference and item.number not in file:
                file.append(Answer(item.number, reason="INVALID_FIELD", message="the row has no known answer"))
                counter()
        known = (Question(item.number, [*item.messages, item.known], item.tools) for item in items if item.known)
        await self._asker.judge(file.model, known, file, counter)
        if all(is_text(item.row) for item in items):
            self._require_any(place, file)

    def _require_any(self, place: int, file: AnswerFile) -> None:
        failed = [answer for item in self._items if not (answer := file[item.number]).is_answered]
        if len(failed) == len(self._items):
            message = f"{self._config.models[place]} could answer no row; row {failed[0].row}: {failed[0].message}"
            raise ServiceError("NOTHING_ANSWERED", message, metadata={"reason": failed[0].reason})

    async def judge(self, judge: ScoreModel, answers: Answers, file: AnswerFile) -> None:
        """Rows that cannot be judged get the reason as their answer at once."""
        counter = self._progress.counter(judge.name, len(file))
        questions = []
        for item in self._items:
            asked = _asked_of(judge, item, answers[item.number])
            if isinstance(asked, Question):
                questions.append(asked)
            elif item.number not in file:
                file.append(asked)
                counter()
        sampling = Sampling(max_tokens=judge.max_tokens, regex=judge.answer_regex)
        await self._asker.answer(file.model, questions, file, sampling, counter)


def _asked_of(judge: ScoreModel, item: Item, answer: Answer) -> Question | Answer:
    """What the judge is asked about a row, or why it is not."""
    if not answer.is_answered:
        return Answer(item.number, reason=answer.reason, message=answer.message)
    values = references(item, answer)
    try:
        return Question(item.number, [spoken(turn.role, template.render(turn.content, values)) for turn in judge.input])
    except MissingReference as error:
        return Answer(item.number, reason="INVALID_FIELD", message=str(error))
