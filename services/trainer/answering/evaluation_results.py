"""Adds up what all models have answered in an evaluation."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.common.grading.graders import ScoreModel
from services.trainer.answering.answer_file import AnswerFile
from services.trainer.answering.config import EvaluationConfig
from services.trainer.answering.outcome import Outcome, write_lines
from services.trainer.answering.recorded import RECORDED, Answers
from services.trainer.answering.rows import row_count
from services.trainer.composition import Composer, Part, Split
from services.trainer.evaluating.leaks import leaked
from services.trainer.evaluating.perplexity import Likelihoods
from services.trainer.evaluating.preferences import preference_columns
from services.trainer.evaluating.row_lines import row_line
from services.trainer.evaluating.scores import Scoring
from services.trainer.evaluating.summary import Measured, summarise
from services.trainer.evaluating.values import Item

_MOST_LEAKED_ROWS = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """How probable what is known is to the models, by their places; nothing when that was not asked."""

    known: Sequence[AnswerFile]
    worse: Sequence[AnswerFile]
    """Of preferences the other outputs."""

    def of(self, place: int, items: Sequence[Item]) -> tuple[Likelihoods, Likelihoods]:
        """Those of one model, by row."""
        files = (each[place] if each else None for each in (self.known, self.worse))
        known, worse = ({item.number: file[item.number] for item in items} if file else {} for file in files)
        return known, worse


def evaluation_outcome(
    config: EvaluationConfig,
    items: Sequence[Item],
    files: Sequence[Answers],
    likelihoods: Judged,
    opinions: Mapping[tuple[ScoreModel, int], AnswerFile],
) -> Outcome:
    """The scores of all models, and a line for every row among the results."""
    scoring, measured = Scoring(items, config.graders), []
    for index, (model, file) in enumerate(zip(config.models or (RECORDED,), files, strict=True)):

        def judged(judge: ScoreModel, row: int, index: int = index) -> str | None:
            opinion = opinions[judge, index][row]
            return opinion.text if opinion.is_answered else None

        answers = {item.number: file[item.number] for item in items}
        known, worse = likelihoods.of(index, items)
        columns = scoring.columns(answers, judged) + (preference_columns(items, known, worse) if worse else [])
        measured.append(Measured(model, answers, columns, known, config.steps.get(model, 0)))
    result = summarise(items, scoring, measured, config.sampling.seed)
    result["leaks"] = _leaks(config, items)
    result["dataset_row_count"] = row_count(config.data)
    result["summary"] += _asked_text(len(items), result["dataset_row_count"])
    write_lines(config.output / "rows.jsonl", (row_line(place, item, measured) for place, item in enumerate(items)))
    return Outcome("EVALUATION", "evaluation", result, step=len(items) * len(files), metrics=_metrics(result["models"]))


def _asked_text(asked: int, count: int) -> str:
    """How many rows the verdicts rest on, unless it is all of them."""
    return f" Asked were {asked:,} of {count:,} rows." if asked < count else ""


def _metrics(models: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Values by score and place of the model."""
    found = {}
    for place, model in enumerate(models):
        if "perplexity" in model:
            found[f"perplexity_{place}"] = model["perplexity"]["value"]
        found |= {f"{score['name']}_{place}": score["value"] for score in model["scores"]}
    return found


def _leaks(config: EvaluationConfig, items: Sequence[Item]) -> list[dict[str, Any]]:
    @functools.cache  # checkpoints of one task share their data, which is searched once
    def by_path(paths: tuple[pathlib.Path, ...], split: Split | None) -> list[list[int]]:
        is_held_out = _held_out(paths, split)
        return [_leaked(items, path, is_held_out) for path in paths]

    found = []
    for model in config.models:
        datasets = config.trained_on.get(model, {})
        for dataset, leak in zip(datasets, by_path(tuple(datasets.values()), config.splits.get(model)), strict=True):
            if leak:
                found.append({"model": model, "dataset": dataset, "row_count": len(leak), "rows": leak[:_MOST_LEAKED_ROWS]})
    return found


def _held_out(paths: Sequence[pathlib.Path], split: Split | None) -> Callable[[bytes], bool]:
    """Which rows of a model's data it was not trained on."""
    if split is None or not paths:
        return lambda row: False
    return Composer([Part(path, 1.0) for path in paths], seed=split.seed).held_out(split.ratio)


def _leaked(items: Sequence[Item], path: pathlib.Path, is_held_out: Callable[[bytes], bool]) -> list[int]:
    with path.open("rb") as file:
        return leaked(items, (json.loads(line) for line in file if not is_held_out(line.strip())))
