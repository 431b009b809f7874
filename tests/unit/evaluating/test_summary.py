"""From answers to what an evaluation found."""

import json
import math

import pytest
from google.protobuf import json_format

from services.common.grading.grade import NotGraded, grade, number_in, sample_values, template_values
from services.common.grading.graders import Grader, Multi, ScoreModel, StringCheck, TextSimilarity, Turn
from services.trainer.evaluating.scores import Scoring
from services.trainer.evaluating.summary import Measured, summarise
from services.trainer.evaluating.turns import spoken
from services.trainer.evaluating.values import Answer, Item
from tunesmith.v1 import evaluation_pb2

JUDGE = ScoreModel("judge", "m", (Turn("user", "Rate {{sample.output_text}}"),), 1, 10, 5)


def item(number: int, reference: str, prompt: str = "") -> Item:
    prompt = prompt or f"question {number}"
    row = {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": reference}]}
    return Item(number, (spoken("user", prompt),), reference, row)


def items(*references: str) -> list[Item]:
    return [item(number, reference) for number, reference in enumerate(references, 1)]


def answers(*texts: str | None) -> dict[int, Answer]:
    return {
        row: Answer(row, text, "STOP", row / 10, 3) if text is not None else Answer(row, reason="X", message="too long")
        for row, text in enumerate(texts, 1)
    }


def summary(rows: list[Item], *said: dict[int, Answer], graders: tuple[Grader, ...] = (), judged=None, known=None) -> dict:
    scoring = Scoring(rows, graders)
    known = known or [{}] * len(said)
    models = [
        Measured(f"m{i}", each, scoring.columns(each, judged or (lambda *_: None)), known[i]) for i, each in enumerate(said)
    ]
    found = summarise(rows, scoring, models, 42)
    # Everything must be a field of the message, and survive as it is.
    json_format.ParseDict(json.loads(json.dumps(found)), evaluation_pb2.EvaluationResult())
    return found


def test_a_better_model_is_called_so_with_its_interval_and_its_regressions() -> None:
    rows = items(*["refund", "delivery"] * 20)
    base = answers(*["refund"] * 40)
    tuned = answers(*["refund", "delivery"] * 19, "delivery", "delivery")
    found = summary(rows, base, tuned)
    assert (found["row_count"], found["primary_score"]) == (40, "exact_match")
    first, second = found["models"]
    assert first["verdict_text"] == "exact_match 50 % (35 to 65)" or first["verdict_text"].startswith("exact_match 50 %")
    assert "verdict" not in first
    assert "delta" not in first["scores"][0]
    assert second["verdict"] == "BETTER"
    assert second["scores"][0]["name"] == "exact_match"
    assert second["scores"][0]["delta"] == pytest.approx(0.475)
    assert second["regressed_rows"] == [39]
    assert (second["regressed_count"], second["improved_count"]) == (1, 20)
    assert second["labels"]["macro_f1"] == pytest.approx((2 * 19 / 39 + 2 * 20 / 41) / 2)
    assert found["summary"].startswith("m0: exact_match 50 %")
    assert "m1: better by 48 ± " in found["summary"] or "m1: better by 47 ± " in found["summary"]
    assert second["latency"] == {"p50": "2.050000s", "p90": "3.610000s", "p95": "3.805000s", "p99": "3.961000s"}
    assert second["completion_token_count"] == 120


def test_the_same_answers_are_no_change_and_fewer_right_ones_are_worse() -> None:
    rows = items(*["a", "b"] * 10)
    right, wrong = answers(*["a", "b"] * 10), answers(*["c"] * 20)
    same, worse = summary(rows, right, right, wrong)["models"][1:]
    assert (same["verdict"], same["verdict_text"]) == ("NO_SIGNIFICANT_CHANGE", "no significant change (+0 ± 0 points)")
    assert (worse["verdict"], worse["regressed_count"]) == ("WORSE", 20)


def test_rows_without_an_answer_count_as_wrong_and_are_counted() -> None:
    found = summary(items("a b c", "d e f"), answers("a b c", None))["models"][0]
    assert (found["answered_count"], found["failed_count"]) == (1, 1)
    assert {score["name"]: score["value"] for score in found["scores"]} == {
        "f1": 0.5,
        "exact_match": 0.5,
        "bleu": 0.5,
        "rouge_l": 0.5,
    }


def test_perplexity_stands_beside_the_scores_of_each_model() -> None:
    rows, said = items("a b c", "d e f"), answers("a b c", "x")
    known = [{row: Answer(row, logprob=logprob, tokens=2) for row in (1, 2)} for logprob in (-4.0, -2.0)]
    base, tuned = summary(rows, said, said, known=known)["models"]
    assert (base["perplexity"]["loss"], tuned["perplexity"]["loss"]) == (2.0, 1.0)
    assert "delta" not in base["perplexity"]
    assert tuned["perplexity"]["delta"] == pytest.approx(math.e - math.e**2)
    assert all("perplexity" not in model for model in summary(rows, said, said)["models"])


def test_steps_stand_with_their_models_and_the_best_is_told_at_the_end() -> None:
    rows = items(*["a", "b"] * 10)
    said = [answers(*["x"] * 20), answers(*["a", "b"] * 10), answers(*["a", "x"] * 10)]
    scoring = Scoring(rows, ())
    models = [
        Measured(f"m{step}", each, scoring.columns(each, lambda *_: None), step=step)
        for step, each in zip((0, 5, 10), said, strict=True)
    ]
    found = summarise(rows, scoring, models, 42)
    json_format.ParseDict(found, evaluation_pb2.EvaluationResult())
    assert [model.get("step") for model in found["models"]] == [None, 5, 10]
    assert (found["best"]["model"], found["best"]["step"]) == ("m5", 5)
    assert found["best"]["text"].startswith(
        "m5 (step 5) does best with exact_match 100 % (100 to 100); against the first model: "
    )
    assert "m0: exact_match 0 % (0 to 0). m5 (step 5): better by 100 ± 0 points. m10 (step 10): " in found["summary"]
    assert found["summary"].endswith(found["best"]["text"] + ".")


def test_everything_goes_by_the_first_grader_even_against_the_built_in_scores() -> None:
    rows = items(*["a", "b"] * 10)
    other = StringCheck("other", "{{sample.output_text}}", "{{item.reference}}", "NE")
    right, wrong, half = answers(*["a", "b"] * 10), answers(*["x"] * 20), answers(*["a", "x"] * 10)
    found = summary(rows, right, wrong, half, graders=(other,))
    first, second, third = found["models"]
    assert first["verdict_text"] == "other 0 % (0 to 0)"
    assert (second["verdict"], second["regressed_count"], second["improved_count"]) == ("BETTER", 0, 20)
    assert (third["verdict"], third["improved_count"]) == ("BETTER", 10)
    assert (found["best"]["model"], found["primary_score"]) == ("m1", "other")
    assert "with other 100 % (100 to 100)" in found["best"]["text"]
    assert "against the last one, m2: better by 50 ± " in found["best"]["text"]
    exact = next(score for score in second["scores"] if score["name"] == "exact_match")
    assert exact["delta"] == -1.0


def test_of_equally_good_models_the_one_that_finds_the_known_answers_more_probable_is_best() -> None:
    rows, said = items(*["a", "b"] * 10), answers(*["a", "b"] * 10)
    known = [{row: Answer(row, logprob=-nats, tokens=1) for row in range(1, 21)} for nats in (3.0, 2.0, 1.0, 2.0)]
    assert summary(rows, *[said] * 4, known=known)["best"]["model"] == "m2"
    assert summary(rows, *[said] * 4)["best"]["model"] == "m1"


def test_numbers_that_are_no_shares_are_told_so_of_the_best_too() -> None:
    rows, said = items("a", "b"), answers("x", "y")
    text = summary(rows, said, said, said, graders=(JUDGE,), judged=lambda *_: "7")["best"]["text"]
    assert "with judge 7 (7 to 7)" in text


# 1 - 0.9 is a little less than 0.1.
ROUNDED = Multi(
    "rounded",
    (StringCheck("same", "{{sample.output_text}}", "{{item.reference}}", "EQ"),),
    "0.1 * same + (1 - 0.9) * (1 - same)",
    0.1,
)


def test_a_rounding_error_is_neither_a_failure_nor_a_regression() -> None:
    rows = items("a", "b")
    first, second = summary(rows, answers("a", "b"), answers("x", "y"), graders=(ROUNDED,))["models"]
    assert second["scores"][0]["value"] < first["scores"][0]["value"]
    assert (first["scores"][0]["pass_rate"], second["scores"][0]["pass_rate"]) == (1.0, 1.0)
    assert (second["regressed_rows"], second["regressed_count"], second["improved_count"]) == ([], 0, 0)
    back = summary(rows, answers("x", "y"), answers("a", "b"), graders=(ROUNDED,))["models"][1]
    assert back["improved_count"] == 0


def test_one_compared_model_is_not_called_the_best() -> None:
    found = summary(items("a", "b"), answers("a", "b"), answers("a", "b"))
    assert "best" not in found
    assert "best" not in found["summary"]


def test_rows_that_got_worse_are_told_up_to_a_hundred_and_all_counted() -> None:
    rows = items(*["a", "b"] * 75)
    worse = summary(rows, answers(*["a", "b"] * 75), answers(*["x"] * 150))["models"][1]
    assert worse["regressed_rows"] == list(range(1, 101))
    assert (worse["regressed_count"], worse["improved_count"]) == (150, 0)


def test_the_worst_rows_come_first() -> None:
    rows = items("a b c d", "a b c d", "a b c d")
    second = summary(rows, answers(*["a b c d"] * 3), answers("a b c x", "x", "a b x x"))["models"][1]
    assert second["regressed_rows"] == [2, 3, 1]


def test_no_answer_at_all_has_no_latency() -> None:
    assert "latency" not in summary(items("a b c"), answers(None))["models"][0]


def test_a_row_passes_when_every_grader_with_a_threshold_lets_it() -> None:
    graders = (
        StringCheck("same", "{{sample.output_text}}", "{{item.reference}}", "ILIKE"),
        TextSimilarity("alike", "{{sample.output_text}}", "{{item.reference}}", "F1", 0.6),
        TextSimilarity("measured", "{{sample.output_text}}", "{{item.reference}}", "F1"),
    )
    rows = items("a b", "c d", "e f", "g h")
    found = summary(rows, answers("a b", "c", "it is e f", None), graders=graders)["models"][0]
    # The second lacks a word, the third passes both (F1 2/3), the fourth has no answer.
    assert (found["passed_count"], found["errored_count"]) == (2, 1)
    assert {score["name"]: score.get("pass_rate") for score in found["scores"][:1]} == {"same": 0.5}
    rates = {score["name"]: score.get("pass_rate") for score in found["scores"]}
    assert (rates["alike"], rates["measured"], rates["exact_match"]) == (0.75, None, None)


def test_a_row_that_could_not_be_graded_has_not_passed_whatever_the_threshold() -> None:
    judge = ScoreModel("judge", "m", (Turn("user", "?"),), 0, 1, 0)
    found = summary(items("a", "b"), answers("a", "b"), graders=(judge,), judged=lambda _, n: "1" if n == 1 else "no idea")
    assert (found["models"][0]["passed_count"], found["models"][0]["errored_count"]) == (1, 1)
    assert found["models"][0]["scores"][0]["pass_rate"] == 0.5


def test_without_a_threshold_nothing_is_said_of_passing() -> None:
    model = summary(items("a", "b"), answers("a", None))["models"][0]
    assert "passed_count" not in model
    assert model["errored_count"] == 1


def test_what_the_verdict_goes_by() -> None:
    objects = [json.dumps({"name": f"n{n}"}) for n in range(6)]
    assert Scoring(items(*objects), ()).primary == "json_field_f1"
    assert Scoring(items(*["a", "b"] * 3), ()).primary == "exact_match"
    assert Scoring(items("a long known answer", "another"), ()).primary == "f1"
    assert Scoring(items("a", "b"), (StringCheck("mine", "", "", "EQ"),)).primary == "mine"


def test_graders_have_their_own_scales() -> None:
    graders = (
        JUDGE,
        TextSimilarity("alike", "{{sample.output_text}}", "{{item.reference}}", "F1", 0.6),
        Multi("both", (StringCheck("eq", "{{sample.output_text}}", "{{item.reference}}", "EQ"), JUDGE), "eq + judge / 10"),
    )
    said = {1: "I give it 8.", 2: "no idea", 3: "99"}
    rows = items("a b", "c d", "e f")
    first, second = summary(
        rows, answers("a b", "c", "x"), answers(None, "c d", "x"), graders=graders, judged=lambda _, n: said[n]
    )["models"]
    judge, alike, both = (next(score for score in first["scores"] if score["name"] == n) for n in ("judge", "alike", "both"))
    assert first["scores"][0] is judge
    assert (judge["value"], judge["pass_rate"], judge["ungraded_count"]) == (pytest.approx((8 + 1 + 10) / 3), 2 / 3, 1)
    assert (alike["value"], alike["pass_rate"]) == (pytest.approx((1 + 2 / 3 + 0) / 3), 2 / 3)
    assert both["value"] == pytest.approx((1.8 + 0 + 1.0) / 3)
    assert "points" not in first["verdict_text"]
    # A row that was not answered gets the lowest number of the range.
    assert second["scores"][0]["value"] == pytest.approx((1 + 1 + 10) / 3)


@pytest.mark.parametrize(
    ("operation", "text", "expected"),
    [
        ("EQ", "ab", 1),
        ("EQ", "aB", 0),
        ("NE", "ab", 0),
        ("NE", "x", 1),
        ("LIKE", "xaby", 1),
        ("LIKE", "xABy", 0),
        ("ILIKE", "xABy", 1),
    ],
)
def test_string_checks(operation: str, text: str, expected: float) -> None:
    check = StringCheck("a", "{{sample.output_text}}", "{{item.reference}}", operation)
    assert grade(check, template_values({}, "", "ab", sample_values(text)), lambda _: None) == expected


def test_an_answer_that_is_json_can_be_taken_apart() -> None:
    check = StringCheck("a", "{{sample.output_json.intent}}", "refund", "EQ")
    assert grade(check, template_values({}, "", "", sample_values('{"intent": "refund"}')), lambda _: None) == 1
    with pytest.raises(NotGraded, match=r"no sample\.output_json\.intent"):
        grade(check, template_values({}, "", "", sample_values("refund")), lambda _: None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("8", 8), ("Score: 7.5/10", 7.5), ("-3", 0), ("v2 gets 4", 4), ("12", 10), ("3.", 3), (".5", 0.5), ("0.25)", 0.25)],
)
def test_the_first_number_of_an_answer(text: str, expected: float) -> None:
    assert number_in(text, 0, 10) == expected


@pytest.mark.parametrize("text", ["", "good", "v2", "2nd"])
def test_no_number_is_no_grade(text: str) -> None:
    with pytest.raises(NotGraded, match="no number"):
        number_in(text, 0, 10)
