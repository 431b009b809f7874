"""What an evaluation found, as text for people; used by `tunesmith eval` and `tunesmith task show`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tunesmith.cli.output import print_table, talk, visible
from tunesmith.v1.evaluation_pb2 import ConfusionCount, EvaluationResult, Labels, Latency, Leak, ModelResult, Perplexity, Score

_LONGEST = 200
_MOST_CONFUSED = 3


def print_result(result: EvaluationResult) -> None:
    """A table of models, then the verdicts and what is odd."""
    rows_asked = _asked_text(result)
    names = [score.name for score in result.models[0].scores] if result.models else []
    rows = [_row(model, names) for model in result.models]
    headers = ["MODEL", "STEP", *(name.upper() for name in names), "PERPLEXITY", "FAILED", "P50, P95", "VERDICT"]
    print_table(headers, rows, "no model was asked", breaks=True)
    for model in result.models[1:]:
        changed = f"{model.improved_count} rows better, {model.regressed_count} worse"
        print(f"{model.model}: {model.verdict_text} on {result.primary_score}, {rows_asked}; {changed}")
        if model.perplexity.delta_text:
            of_what = "texts" if result.primary_score == "log_likelihood" else "known answers"
            print(f"  perplexity of the {of_what} {model.perplexity.value:.3g}: {model.perplexity.delta_text}")
        if model.preference_text:
            print(f"  {model.preference_text}")
    for model in result.models:
        if model.HasField("labels"):
            print(f"{model.model}: {_labels_text(model.labels)}")
    if result.HasField("best"):
        print(result.best.text)
    for model in result.models:
        _print_ungraded(model, result.row_count)
    _print_leaks(result.leaks)


def _asked_text(result: EvaluationResult) -> str:
    """`200 of 4,000 rows`, or `200 rows` when it is all of them or not told."""
    of_all = f" of {result.dataset_row_count:,}" if result.dataset_row_count > result.row_count else ""
    return f"{result.row_count:,}{of_all} rows"


def _labels_text(labels: Labels) -> str:
    """`macro-F1 0.667; most often taken: refund for delivery (3 rows)`; the whole matrix is in the JSON."""
    wrong = sorted((each for each in labels.counts if each.expected != each.answered), key=lambda each: -each.count)
    told = ", ".join(map(_mistake, wrong[:_MOST_CONFUSED]))
    return f"macro-F1 {labels.macro_f1:.3f}" + (f"; most often taken: {told}" if told else "")


def _mistake(each: ConfusionCount) -> str:
    return f"{visible(each.expected)} for {visible(each.answered) or 'none of the labels'} ({each.count} rows)"


def _print_ungraded(model: ModelResult, rows: int) -> None:
    """Rows whose answers a score could not be given to, for example because a judge has named no number."""
    for score in model.scores:
        if score.ungraded_count:
            what = f"{score.name} could not be told of {score.ungraded_count} of {rows} rows"
            talk(f"warning: {model.model}: {what}, which count with the lowest score; why: tunesmith eval rows")


def _print_leaks(leaks: Iterable[Leak]) -> None:
    """Checkpoints of one task share its data, so each dataset is named once."""
    learners: dict[tuple[str, int], list[str]] = {}
    for leak in leaks:
        learners.setdefault((leak.dataset, leak.row_count), []).append(leak.model)
    for (dataset, count), models in learners.items():
        more = f" (and {len(models) - 1} more)" if len(models) > 1 else ""
        talk(f"warning: {models[-1]}{more} was trained on {count} of these rows ({dataset}); its scores say little")


def print_rows(rows: Iterable[Mapping[str, Any]], wanted: Sequence[int]) -> None:
    """The wanted rows in their own order: question, known answer, what each model said."""
    found = {row["row"]: row for row in rows if row["row"] in wanted}
    for number in wanted:
        row = found[number]
        prompt = next((turn["content"] for turn in reversed(row["messages"]) if turn["role"] == "user"), "")
        print(f"\nrow {number}: {_short(prompt)}")
        print(f"  expected  {_short(row['reference'])}")
        for answer in row["answers"]:
            said = answer["error"]["message"] if "error" in answer else answer.get("said", answer["text"])
            print(f"  {answer['model']}  {_short(said)}")


def worst_rows(result: EvaluationResult, most: int) -> list[int]:
    """Numbers of rows that got worse, of the last model first."""
    found = dict.fromkeys(row for model in reversed(result.models) for row in model.regressed_rows)
    return list(found)[:most]


def _row(model: ModelResult, names: Sequence[str]) -> list[str]:
    scores = {score.name: score for score in model.scores}
    texts = [score_text(scores[name]) if name in scores else "" for name in names]
    perplexity = _perplexity_text(model.perplexity) if model.HasField("perplexity") else ""
    latency = _latency_text(model.latency) if model.HasField("latency") else ""
    return [model.model, str(model.step or ""), *texts, perplexity, str(model.failed_count or ""), latency, model.verdict_text]


def score_text(score: Score) -> str:
    """`0.875 ± 0.074`: half of the interval's width."""
    return f"{score.value:.3f} ± {(score.high - score.low) / 2:.3f}"


def _perplexity_text(found: Perplexity) -> str:
    """`12.3 ± 0.7`: half of the interval's width."""
    return f"{found.value:.3g} ± {(found.high - found.low) / 2:.2g}"


def _latency_text(latency: Latency) -> str:
    """`0.25, 0.40 s`; evaluations from before the second was told have the first alone."""
    told = [latency.p50, latency.p95] if latency.HasField("p95") else [latency.p50]
    return ", ".join(f"{each.ToMilliseconds() / 1000:.2f}" for each in told) + " s"


def _short(text: str) -> str:
    flat = " ".join(visible(text).split())
    return flat if len(flat) <= _LONGEST else f"{flat[: _LONGEST - 1]}…"
