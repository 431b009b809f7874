"""What a head of labels is worth, beside the most frequent label as the answer to everything."""

import json
from array import array
from pathlib import Path

import pytest
from google.protobuf import json_format

from services.trainer.training.data import Dataset, Example, Tokens
from services.trainer.training.verdict import head_verdict, most_frequent_label
from tunesmith.v1.evaluation_pb2 import EvaluationResult, ModelResult

TEXT = Tokens(array("i", [1, 2]), array("i"))


def labelled(*labels: str) -> Dataset:
    return Dataset(tuple(Example((TEXT,), label, row=row) for row, label in enumerate(labels, 1)))


def verdict(training: Dataset, validation: Dataset, answers: list[str]) -> EvaluationResult:
    found = head_verdict(training, validation, answers, 24, 0).result
    return json_format.ParseDict(found, EvaluationResult())


def scores(model: ModelResult) -> list[tuple[str, float]]:
    return [(score.name, round(score.value, 6)) for score in model.scores]


def test_a_head_is_compared_with_the_most_frequent_label_of_the_training_data() -> None:
    known = ["pay"] * 10 + ["send"] * 20 + ["stop"] * 10
    # The last ten are taken for something else, and so is one of those that the baseline gets right.
    answers = ["send", *known[1:30], *["send"] * 10]
    found = verdict(labelled("pay", "pay", "send", "stop"), labelled(*known), answers)

    base, head = found.models
    assert (base.model, head.model, head.step) == ('always "pay"', "classifier", 24)
    assert scores(base) == [("accuracy", 0.25)]
    assert scores(head) == [("accuracy", 29 / 40)]
    assert head.verdict == ModelResult.BETTER
    assert head.verdict_text.startswith("better by 48 ± ")
    assert (list(head.regressed_rows), head.regressed_count, head.improved_count) == ([1], 1, 20)
    assert found.primary_score == "accuracy"
    assert found.summary.startswith('always "pay": accuracy 25 % (')
    assert "classifier (step 24): better by 48 ± " in found.summary


def test_the_confusion_matrix_and_macro_f1_come_along() -> None:
    known = ["a"] * 6 + ["b"] * 6
    found = verdict(labelled("a", "b"), labelled(*known), ["a"] * 6 + ["a"] * 3 + ["b"] * 3)
    base, head = found.models
    assert [(each.expected, each.answered, each.count) for each in head.labels.counts] == [
        ("a", "a", 6),
        ("b", "a", 3),
        ("b", "b", 3),
    ]
    assert head.labels.macro_f1 == pytest.approx((12 / 15 + 6 / 9) / 2)
    assert base.labels.macro_f1 == pytest.approx((12 / 18 + 0) / 2)


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (["a"] * 20, ModelResult.NO_SIGNIFICANT_CHANGE),
        (["b"] * 20, ModelResult.WORSE),
        (["a"] * 10 + ["b"] * 10, ModelResult.BETTER),
    ],
    ids=["nothing learned", "worse than nothing", "learned"],
)
def test_a_head_may_be_no_better_than_no_head(answers: list[str], kind: ModelResult.Verdict.ValueType) -> None:
    known = ["a"] * 15 + ["b"] * 5 if kind != ModelResult.BETTER else ["a"] * 10 + ["b"] * 10
    assert verdict(labelled("a", "a", "b"), labelled(*known), answers).models[1].verdict == kind


def test_few_rows_say_nothing() -> None:
    head = verdict(labelled("a", "b"), labelled("a", "b", "b"), ["a", "b", "b"]).models[1]
    assert (head.verdict, head.verdict_text) == (ModelResult.VERDICT_UNSPECIFIED, "3 rows say too little; give at least 10")
    assert scores(head) == [("accuracy", 1.0)]


def test_labels_that_differ_in_case_alone_are_different() -> None:
    head = verdict(labelled("A", "a"), labelled(*["A"] * 6, *["a"] * 6), ["A"] * 12).models[1]
    assert scores(head) == [("accuracy", 0.5)]


def test_nobody_is_told_how_long_answers_took_that_were_not_asked_for() -> None:
    found = verdict(labelled("a", "b"), labelled("a", "b"), ["a", "b"])
    assert not any(model.HasField("latency") for model in found.models)


def test_a_row_keeps_its_number_in_the_dataset() -> None:
    rows = Dataset(tuple(Example((TEXT,), "a", row=row) for row in range(7, 19)))
    assert list(verdict(labelled("a", "a", "b"), rows, ["b", *["a"] * 11]).models[1].regressed_rows) == [7]


def test_every_row_that_was_measured_is_kept_with_what_both_answered(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": f"question {row}"}], "label": "a", "id": row} for row in range(1, 5)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # The second row was too long and left out of the training data.
    measured = Dataset(tuple(Example((TEXT,), "a", row=row) for row in (1, 3, 4)))
    found = head_verdict(labelled("b", "b", "a"), measured, ["a", "a", "b"], 24, 0)
    found.save_rows(tmp_path / "data.jsonl", tmp_path / "evaluation" / "rows.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "evaluation" / "rows.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == [1, 3, 4]
    assert lines[1]["messages"] == [{"role": "user", "content": "question 3"}]
    assert (lines[1]["reference"], lines[1]["beside"]) == ("a", {"id": 3})
    said = [[(each["text"], each["scores"]["accuracy"]) for each in line["answers"]] for line in lines]
    assert said == [[("b", 0), ("a", 1)], [("b", 0), ("a", 1)], [("b", 0), ("b", 0)]]


@pytest.mark.parametrize(
    ("labels", "usual"), [(("b", "a", "b"), "b"), (("b", "a"), "a"), (("x",), "x")], ids=["most", "a tie", "one"]
)
def test_the_most_frequent_label_is_the_same_every_time(labels: tuple[str, ...], usual: str) -> None:
    assert most_frequent_label(labelled(*labels)) == usual


def test_a_long_label_is_cut_in_the_name_of_the_baseline() -> None:
    found = verdict(labelled("l" * 80, "b"), labelled("b"), ["b"])
    assert verdict(labelled("b", "b", "l" * 80), labelled("b"), ["b"]).models[0].model == 'always "b"'
    assert len(verdict(labelled("l" * 80, "l" * 80, "b"), labelled("b"), ["b"]).models[0].model) == len('always ""') + 40
    assert found.row_count == 1
