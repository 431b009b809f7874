"""Scores of every row: which ones there are, what they mean, in which order they stand."""

import json

import pytest

from services.common.grading.grade import Scale
from services.common.grading.graders import Grader, Multi, ScoreModel, StringCheck, TextSimilarity, Turn
from services.trainer.evaluating.scores import Column, Scoring
from services.trainer.evaluating.turns import spoken
from services.trainer.evaluating.values import Answer, Item

TEXT, KNOWN = "{{sample.output_text}}", "{{item.reference}}"
EQ = StringCheck("same", TEXT, KNOWN, "EQ")
JUDGE = ScoreModel("judge", "m", (Turn("user", "x"),), 2, 8, 6)


def items(*references: str) -> list[Item]:
    return [Item(number, (spoken("user", f"q{number}"),), text, {"n": number}) for number, text in enumerate(references, 1)]


def answers(*texts: str | None) -> dict[int, Answer]:
    """None = not answered."""
    return {
        row: Answer(row, text) if text is not None else Answer(row, reason="TOO_LONG", message="it is too long")
        for row, text in enumerate(texts, 1)
    }


def columns(rows: list[Item], given: dict[int, Answer], *graders: Grader, judged=lambda *_: None) -> dict[str, Column]:
    return {column.name: column for column in Scoring(rows, graders).columns(given, judged)}


def test_what_asks_nothing_is_scored_by_how_probable_it_is() -> None:
    rows = [Item(number, (), "the text", {"text": "the text"}) for number in (1, 2, 3)]
    known = {1: Answer(1, logprob=-6.0, tokens=3), 2: Answer(2, reason="TOO_LONG"), 3: Answer(3, logprob=-5.0, tokens=1)}
    scoring = Scoring(rows, ())
    (column,) = scoring.columns(known, lambda *_: None)
    assert (scoring.primary, column.name, scoring.has_labels) == ("log_likelihood", "log_likelihood", False)
    # In nats per token; what could not be judged counts like the least probable one.
    assert (column.values, column.scale) == ((-2.0, -5.0, -5.0), Scale(-5.0, False, None))
    (column,) = scoring.columns({row: Answer(row, reason="TOO_LONG") for row in (1, 2, 3)}, lambda *_: None)
    assert column.values == (0.0, 0.0, 0.0)


def test_built_in_scores_of_texts() -> None:
    found = columns(items("a b", "c d"), answers("A b.", "c x"))
    assert found["exact_match"].values == (1.0, 0.0)
    assert found["f1"].values == (1.0, 0.5)
    assert found["rouge_l"].values == (1.0, 0.5)
    assert set(found) == {"exact_match", "f1", "bleu", "rouge_l"}
    assert all(column.scale == Scale(0.0, True, None) and not column.ungraded for column in found.values())


def test_what_could_not_be_graded_is_no_better_than_the_worst_that_could() -> None:
    penalty = Multi("penalty", (ScoreModel("judge", "m", (Turn("user", "x"),), 0, 10),), "0 - judge")
    found = columns(items("a", "b", "c"), answers("x", "y", None), penalty, judged=lambda _, row: {1: "2", 2: "7"}.get(row))
    assert (found["penalty"].values, list(found["penalty"].ungraded)) == ((-2.0, -7.0, -7.0), [3])
    assert columns(items("a"), answers(None), penalty)["penalty"].values == (0.0,)


def test_json_is_scored_when_all_known_answers_are_objects() -> None:
    known = json.dumps({"a": 1, "b": 2})
    found = columns(items(known, known), answers('{"b": 2, "a": 1}', "no"))
    assert (found["json_valid"].values, found["json_field_f1"].values) == ((1.0, 0.0), (1.0, 0.0))
    assert "json_valid" not in columns(items(known, "[1]"), answers("", ""))


@pytest.mark.parametrize(
    ("references", "graders", "first"),
    [
        (["a", "b"] * 3, (), "exact_match"),
        (["a long known answer", "and another one"], (), "f1"),
        (['{"a": 1}', '{"a": 2}'], (), "json_field_f1"),
        (['{"a": 1}', '{"a": 2}'] * 3, (), "exact_match"),
        (["a", "b"] * 3, (EQ,), "same"),
        (["a", "b"] * 3, (TextSimilarity("alike", TEXT, KNOWN, "BLEU"), EQ), "alike"),
    ],
    ids=["labels", "texts", "objects", "objects that are labels", "grader", "first grader"],
)
def test_the_one_that_verdicts_go_by_stands_first(references: list[str], graders: tuple[Grader, ...], first: str) -> None:
    rows = items(*references)
    scoring = Scoring(rows, graders)
    names = [column.name for column in scoring.columns(answers(*references), lambda *_: None)]
    assert (scoring.primary, names[0]) == (first, first)
    assert len(set(names)) == len(names)
    # The others keep their order.
    assert [name for name in names[1:] if name in ("exact_match", "f1", "bleu", "rouge_l")] == [
        name for name in ("exact_match", "f1", "bleu", "rouge_l") if name != first
    ]


def test_a_row_without_an_answer_has_the_lowest_score_and_for_graders_the_reason() -> None:
    found = columns(items("a", "b"), answers("a", None), EQ, JUDGE, judged=lambda *_: "7")
    assert found["exact_match"].values == (1.0, 0.0)
    assert found["exact_match"].ungraded == {}
    assert (found["same"].values, found["same"].ungraded) == ((1.0, 0.0), {2: "it is too long"})
    assert (found["judge"].values, found["judge"].ungraded) == ((7.0, 2.0), {2: "it is too long"})


def test_a_judge_is_asked_by_row_and_its_number_brought_into_its_range() -> None:
    asked = []

    def judged(judge: ScoreModel, row: int) -> str | None:
        asked.append((judge.name, row))
        return {1: "I say 5.5", 2: "100", 3: "-1", 4: "none", 5: None}[row]

    found = columns(items(*"abcde"), answers(*"abcde"), JUDGE, judged=judged)["judge"]
    assert asked == [("judge", row) for row in range(1, 6)]
    assert found.values == (5.5, 8.0, 2.0, 2.0, 2.0)
    assert found.ungraded == {4: "there is no number in 'none'", 5: "m gave no answer"}
    assert found.scale == Scale(2, False, 6)


@pytest.mark.parametrize(
    ("grader", "expected"),
    [
        (EQ, Scale(0.0, True, 1.0)),
        (TextSimilarity("a", TEXT, KNOWN, "F1", 0.4), Scale(0.0, True, 0.4)),
        (ScoreModel("a", "m", ()), Scale(0.0, True, None)),
        (ScoreModel("a", "m", (), 0.0, 1.0, 0.5), Scale(0.0, True, 0.5)),
        (ScoreModel("a", "m", (), -1.0, 1.0), Scale(-1.0, False, None)),
        (ScoreModel("a", "m", (), 0.0, 10.0), Scale(0.0, False, None)),
        (Multi("a", (EQ,), "same", 0.9), Scale(0.0, False, 0.9)),
    ],
    ids=["check", "similarity", "judge of a share", "with a threshold", "below 0", "of ten", "several"],
)
def test_what_the_numbers_of_a_grader_mean(grader: Grader, expected: Scale) -> None:
    rows = items("a")
    (column,) = [each for each in Scoring(rows, (grader,)).columns(answers("a"), lambda *_: "1") if each.name == grader.name]
    assert column.scale == expected


def test_several_graders_as_one_have_no_number_when_one_of_them_has_none() -> None:
    both = Multi("both", (EQ, JUDGE), "same + judge")
    found = columns(items("a", "b"), answers("a", "b"), both, judged=lambda _, row: "5" if row == 1 else "no idea")["both"]
    assert found.values == (6.0, 0.0)
    assert found.ungraded == {2: "there is no number in 'no idea'"}


def test_a_formula_without_a_value_is_a_reason_of_its_row_alone() -> None:
    ratio = Multi("ratio", (EQ,), "1 / same")
    found = columns(items("a", "b"), answers("a", "x"), ratio)["ratio"]
    assert found.values == (1.0, 0.0)
    assert "the expression has no value" in found.ungraded[2]


def test_graders_see_the_row_and_cannot_be_fooled_by_its_keys() -> None:
    rows = [Item(1, (spoken("user", "real question"),), "known", {"prompt": "other", "reference": "other", "city": "Bern"})]
    checks = (
        StringCheck("prompt", "{{item.prompt}}", "real question", "EQ"),
        StringCheck("reference", "{{item.reference}}", "known", "EQ"),
        StringCheck("key", "{{item.city}}", "Bern", "EQ"),
        StringCheck("nothing", "{{item.street}}", "x", "EQ"),
    )
    found = columns(rows, answers("said"), *checks)
    assert [found[name].values for name in ("prompt", "reference", "key", "nothing")] == [(1.0,), (1.0,), (1.0,), (0.0,)]
    assert found["nothing"].ungraded == {1: "the row has no item.street"}


def test_an_answer_that_is_json_is_seen_in_its_parts() -> None:
    intent = StringCheck("intent", "{{sample.output_json.intent}}", "refund", "EQ")
    found = columns(items("x", "y"), answers('{"intent": "refund"}', "refund"), intent)["intent"]
    assert found.values == (1.0, 0.0)
    assert "no sample.output_json.intent" in found.ungraded[2]
