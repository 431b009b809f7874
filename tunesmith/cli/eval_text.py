"""What an evaluation found, as text for people; used by `tunesmith eval` and `tunesmith task show`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tunesmith.cli.output import print_table, talk, visible
from tunesmith.v1.evaluation_pb2 import EvaluationResult, ModelResult, Score

_LONGEST = 200


def print_result(result: EvaluationResult) -> None:
    """A table of models, then the verdicts and what is odd."""
    names = [score.name for score in result.models[0].scores] if result.models else []
    rows = [_row(model, names) for model in result.models]
    print_table(["MODEL", *(name.upper() for name in names), "FAILED", "P50", "VERDICT"], rows, "no model was asked")
    for model in result.models[1:]:
        changed = f"{model.improved_count} rows better, {model.regressed_count} worse"
        print(f"{model.model}: {model.verdict_text} on {result.primary_score}, {result.row_count} rows; {changed}")
    for leak in result.leaks:
        talk(f"warning: {leak.model} was trained on {leak.row_count} of these rows ({leak.dataset}); its scores say little")


def print_rows(rows: Iterable[Mapping[str, Any]], wanted: Sequence[int]) -> None:
    """The wanted rows in their own order: question, known answer, what each model said."""
    found = {row["row"]: row for row in rows if row["row"] in wanted}
    for number in wanted:
        row = found[number]
        prompt = next((turn["content"] for turn in reversed(row["messages"]) if turn["role"] == "user"), "")
        print(f"\nrow {number}: {_short(prompt)}")
        print(f"  expected  {_short(row['reference'])}")
        for answer in row["answers"]:
            said = answer["error"]["message"] if "error" in answer else answer["text"]
            print(f"  {answer['model']}  {_short(said)}")


def worst_rows(result: EvaluationResult, most: int) -> list[int]:
    """Numbers of rows that got worse, of the last model first."""
    found = dict.fromkeys(row for model in reversed(result.models) for row in model.regressed_rows)
    return list(found)[:most]


def _row(model: ModelResult, names: Sequence[str]) -> list[str]:
    scores = {score.name: score for score in model.scores}
    median = f"{model.latency.p50.ToMilliseconds() / 1000:.2f} s" if model.HasField("latency") else ""
    texts = [score_text(scores[name]) if name in scores else "" for name in names]
    return [model.model, *texts, str(model.failed_count or ""), median, model.verdict_text]


def score_text(score: Score) -> str:
    """`0.875 ± 0.074`: half of the interval's width."""
    return f"{score.value:.3f} ± {(score.high - score.low) / 2:.3f}"


def _short(text: str) -> str:
    flat = " ".join(visible(text).split())
    return flat if len(flat) <= _LONGEST else f"{flat[: _LONGEST - 1]}…"
