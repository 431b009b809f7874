"""What an evaluation found, from the answers of all models: the fields of EvaluationResult as JSON has them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from services.trainer.evaluating import labels
from services.trainer.evaluating.best import Contender, best_model, label
from services.trainer.evaluating.bootstrap import Interval, Numbers, interval, resampled_means
from services.trainer.evaluating.perplexity import Likelihoods, perplexities
from services.trainer.evaluating.preferences import ACCURACY, MARGIN, preference_change, preference_text
from services.trainer.evaluating.scores import Column
from services.trainer.evaluating.values import Answer, Item
from services.trainer.evaluating.verdict import amount, verdict

_MOST_ROWS = 100
_EPSILON = 1e-9


class Scored(Protocol):
    """How rows were scored; Scoring is one."""

    @property
    def has_labels(self) -> bool:
        """Whether the known answers are labels."""

    @property
    def primary(self) -> str:
        """The score that verdicts go by."""


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """One model, its answers by row and its scores."""

    model: str
    answers: Mapping[int, Answer]
    columns: Sequence[Column]
    likelihoods: Likelihoods = dataclasses.field(default_factory=dict)
    """Empty when perplexity is not measured."""
    step: int = 0
    """Optimizer steps it was trained for; 0 = not told."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Sample:
    """The values of one model's scores (rows x scores) and their resampled means (resamples x scores)."""

    values: Numbers
    means: Numbers


def summarise(items: Sequence[Item], scoring: Scored, models: Sequence[Measured], seed: int) -> dict[str, Any]:
    """All but the leaks. The first model is what the others are compared with; every row is drawn with all its models."""
    samples = [_sample(measured, seed) for measured in models]
    results = [_model(items, measured, sample, samples[0]) for measured, sample in zip(models, samples, strict=True)]
    for result, found in zip(results, perplexities([each.likelihoods for each in models], seed), strict=True):
        if found:
            result["perplexity"] = found
    if scoring.has_labels:
        for result, measured in zip(results, models, strict=True):
            result["labels"] = _labels(items, measured.answers)
    said = [f"{label(each.model, each.step)}: {_verdicts(result)}." for each, result in zip(models, results, strict=True)]
    found = {"row_count": len(items), "primary_score": scoring.primary, "models": results}
    if best := best_model(_contenders(models, samples, results), scoring.primary, len(items), is_share=_is_share(models)):
        found["best"] = best
        said.append(f"{best['text']}.")
    return found | {"summary": " ".join(said)}


def _contenders(models: Sequence[Measured], samples: Sequence[_Sample], results: Sequence[Mapping[str, Any]]) -> list[Contender]:
    """All but the first model."""
    return [
        Contender(
            model=measured.model,
            step=measured.step,
            score=_mean(sample, 0),
            means=sample.means[:, 0],
            perplexity=result["perplexity"]["value"] if "perplexity" in result else None,
            verdict_text=result["verdict_text"],
        )
        for measured, sample, result in list(zip(models, samples, results, strict=True))[1:]
    ]


def _is_share(models: Sequence[Measured]) -> bool:
    return models[0].columns[0].scale.is_share


def _sample(measured: Measured, seed: int) -> _Sample:
    values = np.array([column.values for column in measured.columns], dtype=np.float64).T
    # The same seed draws the same rows for every model, so that differences are paired.
    return _Sample(values, resampled_means(values, seed))


def _model(items: Sequence[Item], measured: Measured, own: _Sample, first: _Sample) -> dict[str, Any]:
    answered = [measured.answers[item.number] for item in items if measured.answers[item.number].is_answered]
    result: dict[str, Any] = {
        "model": measured.model,
        "answered_count": len(answered),
        "failed_count": len(items) - len(answered),
        "scores": [_score(index, column, own, first) for index, column in enumerate(measured.columns)],
        "completion_token_count": sum(answer.tokens for answer in answered),
        "prompt_token_count": sum(answer.prompt_tokens for answer in answered),
        **_passing(items, measured),
    }
    if measured.step:
        result["step"] = measured.step
    # Nobody has asked for answers that were there.
    if any(answer.seconds for answer in answered):
        result["latency"] = _latency([answer.seconds for answer in answered])
    return result | _verdict(items, measured.columns[0], own, first) | _preference(measured.columns, own, first)


def _verdicts(result: Mapping[str, Any]) -> str:
    return "; ".join(result[name] for name in ("verdict_text", "preference_text") if name in result)


def _passing(items: Sequence[Item], measured: Measured) -> dict[str, int]:
    """How many rows passed every score that can be passed, and how many have no answer or not every score."""
    errored = {item.number for item in items if not measured.answers[item.number].is_answered}
    errored.update(row for column in measured.columns for row in column.ungraded)
    columns = [column.passed for column in measured.columns if column.scale.pass_threshold is not None]
    if not columns:
        return {"errored_count": len(errored)}
    passed = sum(all(marks) and item.number not in errored for item, marks in zip(items, zip(*columns, strict=True), strict=True))
    return {"errored_count": len(errored), "passed_count": passed}


def _score(index: int, column: Column, own: _Sample, first: _Sample) -> dict[str, Any]:
    found = interval(_mean(own, index), own.means[:, index])
    score: dict[str, Any] = {"name": column.name, "value": found.value, "low": found.low, "high": found.high}
    if own is not first:
        delta = _delta(index, own, first)
        score |= {"delta": delta.value, "delta_low": delta.low, "delta_high": delta.high}
    if column.scale.pass_threshold is not None:
        score["pass_rate"] = sum(column.passed) / len(column.values)
    return score | ({"ungraded_count": len(column.ungraded)} if column.ungraded else {})


def _verdict(items: Sequence[Item], primary: Column, own: _Sample, first: _Sample) -> dict[str, Any]:
    is_share = primary.scale.is_share
    if own is first:
        score = interval(_mean(own, 0), own.means[:, 0])
        return {"verdict_text": f"{primary.name} {amount(score, is_share=is_share)}"}
    found = verdict(_delta(0, own, first), len(items), is_share=is_share)
    changes = own.values[:, 0] - first.values[:, 0]
    worst = sorted((change, item.number) for change, item in zip(changes, items, strict=True) if change < -_EPSILON)
    return {
        "verdict": found.kind,
        "verdict_text": found.text,
        "regressed_rows": [number for _, number in worst[:_MOST_ROWS]],
        "regressed_count": len(worst),
        "improved_count": int((changes > _EPSILON).sum()),
    }


def _preference(columns: Sequence[Column], own: _Sample, first: _Sample) -> dict[str, str]:
    """Of preferences what is to be said of them, whatever else the verdict goes by."""
    places = [index for index, column in enumerate(columns) if column.name in (ACCURACY, MARGIN)]
    if not places:
        return {}
    accuracy, margin = (interval(_mean(own, index), own.means[:, index]) for index in places)
    said = preference_text(accuracy, margin)
    if own is not first:
        accuracy, margin = (_delta(index, own, first) for index in places)
        grown = int((own.values[:, places[1]] - first.values[:, places[1]] > _EPSILON).sum())
        said = f"{said} ({preference_change(accuracy, margin, grown, len(own.values))})"
    return {"preference_text": said}


def _mean(sample: _Sample, index: int) -> float:
    return float(sample.values[:, index].mean())


def _delta(index: int, own: _Sample, first: _Sample) -> Interval:
    return interval(_mean(own, index) - _mean(first, index), own.means[:, index] - first.means[:, index])


def _latency(seconds: Sequence[float]) -> dict[str, str]:
    return {f"p{share}": f"{float(np.quantile(seconds, share / 100)):.6f}s" for share in (50, 90, 95, 99)}


def _labels(items: Sequence[Item], answers: Mapping[int, Answer]) -> dict[str, Any]:
    said = [answers[item.number].said if answers[item.number].is_answered else None for item in items]
    found = labels.confusion(said, [item.reference for item in items])
    counts = [{"expected": known, "answered": answer, "count": count} for known, answer, count in found.counts]
    return {"macro_f1": found.macro_f1, "labels": list(found.labels), "counts": counts}
