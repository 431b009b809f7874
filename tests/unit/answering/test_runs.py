"""Evaluations, and what they have in common with generations, with models that answer by a rule."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from services.common.errors import NotFound, ServiceError
from services.common.grading.graders import ScoreModel, StringCheck, Turn
from services.common.grading.sampling import Sampling
from services.trainer.answering.config import EvaluationConfig, GenerationConfig, load_config
from services.trainer.answering.outcome import save_outcome
from services.trainer.composition import Composer, Part, Split
from tests.unit.answering.fake_models import FakeModels
from tests.unit.answering.scripted_runs import (
    BROKEN,
    BUSY,
    NO_TOOLS,
    TOO_LONG,
    UNAVAILABLE,
    chat,
    evaluation,
    generation,
    parity,
    run_evaluation,
    run_generation,
    told,
    write,
)

pytestmark = pytest.mark.usefixtures("no_pauses")


def asked_tokens(tmp_path: Path, rows: list[dict[str, Any]], **more: Any) -> set[int]:
    """How long answers may become."""
    write(tmp_path / "rows.jsonl", rows)
    models = FakeModels(lambda *_: "a")
    run_evaluation(evaluation(tmp_path, tmp_path / "rows.jsonl", **more), models)
    return {sampling.max_tokens for sampling in models.samplings}


def test_answers_become_as_long_as_the_longest_known_one_needs(tmp_path: Path) -> None:
    rows = [chat("q1", "short"), chat("q2", "größer")]
    assert asked_tokens(tmp_path, rows, bounds_answers=True) == {8 + 32}


UNBOUNDED = {
    "somebody has said how long": ([chat("q1", "short")], False),
    "an answer is not known": ([chat("q1", "short"), chat("q2")], True),
    "an answer is longer than the default": ([chat("q1", "x" * 1000)], True),
}


@pytest.mark.parametrize(("rows", "bounds_answers"), UNBOUNDED.values(), ids=UNBOUNDED)
def test_answers_become_as_long_as_otherwise(tmp_path: Path, rows: list[dict[str, Any]], bounds_answers: bool) -> None:
    assert asked_tokens(tmp_path, rows, bounds_answers=bounds_answers) == {256}


def test_an_evaluation_says_who_is_better_and_keeps_every_row(tmp_path: Path, data: Path) -> None:
    models = FakeModels(parity)
    outcome, events = run_evaluation(evaluation(tmp_path, data), models)
    base, tuned = outcome.result["models"]
    assert (base["scores"][0]["name"], base["scores"][0]["value"]) == ("exact_match", 0.5)
    assert (tuned["scores"][0]["value"], tuned["verdict"]) == (0.95 + 0.05, "BETTER")
    assert sorted(models.asked) == sorted((f"loaded/{m}", row) for m in ("base", "tuned") for row in range(1, 21))
    assert models.most_at_once == 4
    rows = [json.loads(line) for line in (tmp_path / "output" / "rows.jsonl").read_text().splitlines()]
    assert [row["row"] for row in rows] == list(range(1, 21))
    assert rows[1]["reference"] == "even"
    assert [(a["model"], a["text"], a["scores"]["exact_match"]) for a in rows[1]["answers"]] == [
        ("base", "odd", 0.0),
        ("tuned", "even", 1.0),
    ]
    started, *rest = [event for event in events if event.kind != "beat"]
    assert started.fields == {"total_answers": 40, "resumed_answers": 0, "models": ["base", "tuned"]}
    assert [event.fields["step"] for event in rest] == list(range(1, 41))
    assert rest[-1].fields["values"]["model_1_answers"] == 20


def of_texts(tmp_path: Path, models: FakeModels):
    write(tmp_path / "rows.jsonl", [{"text": f"text {number}"} for number in range(1, 13)])
    return run_evaluation(evaluation(tmp_path, tmp_path / "rows.jsonl", measures_perplexity=True), models)


def test_of_texts_only_how_probable_they_are_is_measured(tmp_path: Path) -> None:
    models = FakeModels(
        parity, logprob=lambda model, messages: -(1.0 if model.endswith("tuned") else 2.0) * len(messages[0]["content"])
    )
    outcome, events = of_texts(tmp_path, models)
    base, tuned = outcome.result["models"]
    assert (outcome.result["primary_score"], tuned["verdict"]) == ("log_likelihood", "BETTER")
    assert tuned["verdict_text"].startswith("better by 3.")
    # 75 letters in 12 texts of two tokens each.
    assert (base["perplexity"]["loss"], tuned["perplexity"]["loss"]) == pytest.approx((2 * 75 / 24, 75 / 24))
    assert tuned["perplexity"]["delta_text"].startswith("lower by")
    assert models.asked == []
    assert sorted(models.judged) == sorted((f"loaded/{m}", row) for m in ("base", "tuned") for row in range(1, 13))
    started = next(event for event in events if event.kind == "answering_started")
    assert started.fields["total_answers"] == 24
    line = json.loads((tmp_path / "output" / "rows.jsonl").read_text().splitlines()[0])
    assert (line["messages"], line["reference"]) == ([], "text 1")
    assert line["answers"][0]["scores"] == {"log_likelihood": -6.0}


def test_a_text_is_judged_as_it_stands(tmp_path: Path) -> None:
    seen: set[Any] = set()
    of_texts(tmp_path, FakeModels(parity, logprob=lambda _, messages: seen.add(tuple(told(messages))) or -1.0))
    assert seen == {(("text", f"text {number}"),) for number in range(1, 13)}


def test_texts_of_which_none_can_be_judged_end_the_run(tmp_path: Path) -> None:
    models = FakeModels(parity)
    models.refuse_to_judge = dict.fromkeys(range(1, 13), TOO_LONG)
    with pytest.raises(ServiceError, match="base could answer no row") as refused:
        of_texts(tmp_path, models)
    assert refused.value.reason == "NOTHING_ANSWERED"


def test_what_was_answered_is_not_asked_again_and_the_result_is_the_same(tmp_path: Path, data: Path) -> None:
    whole, _ = run_evaluation(evaluation(tmp_path / "whole", data), FakeModels(parity))
    config = evaluation(tmp_path / "broken", data)
    with pytest.raises(ServiceError, match="it is gone"):
        run_evaluation(config, FakeModels(parity, {13: [NotFound("MODEL_NOT_FOUND", "x", message="it is gone")]}))
    models = FakeModels(parity)
    resumed, events = run_evaluation(config, models)
    assert resumed.result == whole.result
    assert (config.output / "rows.jsonl").read_bytes() == (tmp_path / "whole" / "output" / "rows.jsonl").read_bytes()
    done = next(event.fields["resumed_answers"] for event in events if event.kind == "answering_started")
    assert 0 < done < 20
    assert len(models.asked) == 40 - done


def test_rows_spread_over_the_data_are_the_same_for_every_model_and_told(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    write(data, [chat(f"q{number}", "even" if number % 2 == 0 else "odd") for number in range(40)])
    config = evaluation(tmp_path, data, max_rows=8, spreads_rows=True, measures_perplexity=True)
    interrupted = FakeModels(parity, {20: [NotFound("BASE_MODEL_NOT_FOUND", "gone")]})
    with pytest.raises(ServiceError):
        run_evaluation(config, interrupted)
    models = FakeModels(parity)
    outcome, _ = run_evaluation(config, models)
    rows = {4, 9, 15, 20, 21, 29, 35, 40}
    for name in ("loaded/base", "loaded/tuned"):
        assert {row for model, row in interrupted.asked + models.asked if model == name} == rows
    assert len(interrupted.asked + models.asked) == len(models.judged) == 16
    assert (outcome.result["row_count"], outcome.result["dataset_row_count"]) == (8, 40)
    assert outcome.result["summary"].endswith(" Asked were 8 of 40 rows.")


def test_trouble_that_passes_is_waited_for_and_trouble_of_a_row_is_kept(tmp_path: Path, data: Path) -> None:
    trouble = {0: [UNAVAILABLE], 2: [UNAVAILABLE, BUSY], 3: [TOO_LONG], 4: [BROKEN, BROKEN], 5: [BROKEN] * 3}
    models = FakeModels(parity, trouble)
    outcome, _ = run_evaluation(evaluation(tmp_path, data, models=("base",)), models)
    base = outcome.result["models"][0]
    assert (base["answered_count"], base["failed_count"]) == (18, 2)
    rows = [json.loads(line) for line in (tmp_path / "output" / "rows.jsonl").read_text().splitlines()]
    assert rows[2]["answers"][0]["error"]["reason"] == "CONTEXT_LENGTH_EXCEEDED"
    assert rows[4]["answers"][0]["error"] == {"reason": "INTERNAL", "message": "the engine failed"}


def better_known(model: str, messages) -> float:
    """The tuned model finds every known answer e times as probable; every third is half as probable as the others."""
    row = int(messages[-2]["content"].removeprefix("q"))
    return -(4.0 if model.endswith("base") else 2.0) - (row % 3 == 0)


def test_known_answers_are_judged_behind_their_question(tmp_path: Path, data: Path) -> None:
    seen: list[list[tuple[str, str]]] = []

    def known(model: str, messages) -> float:
        seen.append(told(messages))
        return -1.0

    models = FakeModels(parity, logprob=known)
    run_evaluation(evaluation(tmp_path, data, models=("base",), measures_perplexity=True, max_rows=1), models)
    assert seen == [[("system", "Be brief."), ("user", "q1"), ("assistant", "odd")]]


def test_perplexity_of_the_known_answers_with_its_difference(tmp_path: Path, data: Path) -> None:
    models = FakeModels(parity, logprob=better_known)
    outcome, events = run_evaluation(evaluation(tmp_path, data, measures_perplexity=True), models)
    base, tuned = (model["perplexity"] for model in outcome.result["models"])
    # 20 rows of 2 tokens; 6 rows cost one more nat.
    assert (base["loss"], tuned["loss"]) == (pytest.approx(86 / 40), pytest.approx(46 / 40))
    assert tuned["value"] == pytest.approx(math.exp(46 / 40))
    assert tuned["delta_text"].startswith("lower by 5.43 ± ")
    assert outcome.metrics["perplexity_1"] == tuned["value"]
    assert sorted(models.judged) == sorted(models.asked)
    rows = [json.loads(line) for line in (tmp_path / "output" / "rows.jsonl").read_text().splitlines()]
    assert [answer["reference_loss"] for answer in rows[2]["answers"]] == [2.5, 1.5]
    assert {answer["reference_tokens"] for row in rows for answer in row["answers"]} == {2}
    told = [event.fields["values"] for event in events if event.kind == "metrics"][-1]
    assert (told["known_1_answers"], told["answers"]) == (20, 80)


def test_known_answers_that_were_judged_are_not_judged_again(tmp_path: Path, data: Path) -> None:
    config = evaluation(tmp_path, data, measures_perplexity=True)
    whole, _ = run_evaluation(config, FakeModels(parity, logprob=better_known))
    models = FakeModels(parity, logprob=better_known)
    (config.answers / "known-1.jsonl").unlink()
    again, events = run_evaluation(config, models)
    assert again.result == whole.result
    assert (models.asked, models.judged) == ([], [("loaded/tuned", row) for row in range(1, 21)])
    assert next(event.fields["resumed_answers"] for event in events if event.kind == "answering_started") == 60


def test_rows_whose_known_answer_cannot_be_judged_are_left_out_of_perplexity_alone(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    called = {"role": "assistant", "content": None, "tool_calls": []}
    write(data, [chat("q1", "odd"), {"messages": [*chat("q2")["messages"], called]}, chat("q3", "odd"), chat("q4", "even")])
    # Row 3 is answered, but too long with the known answer behind it.
    models = FakeModels(parity, logprob=lambda *_: -3.0)
    models.refuse_to_judge = {3: TOO_LONG}
    outcome, events = run_evaluation(evaluation(tmp_path, data, models=("base",), measures_perplexity=True), models)
    (base,) = outcome.result["models"]
    assert (base["answered_count"], base["failed_count"]) == (4, 0)
    assert (base["perplexity"]["unscored_count"], base["perplexity"]["token_count"], base["perplexity"]["loss"]) == (2, 4, 1.5)
    rows = [json.loads(line) for line in (tmp_path / "output" / "rows.jsonl").read_text().splitlines()]
    assert ["reference_loss" in row["answers"][0] for row in rows] == [True, False, False, True]
    # Each row counts, whether it could be judged or not.
    assert [event.fields["step"] for event in events if event.kind == "metrics"][-1] == 8


def preferences(path: Path, count: int) -> Path:
    """The preferred output of each is `good`, the other one `bad`."""
    good, bad = ([{"role": "assistant", "content": text}] for text in ("good", "bad"))
    asked = ({"messages": chat(f"q{number}")["messages"]} for number in range(1, count + 1))
    write(path, [{"input": each, "preferred_output": good, "non_preferred_output": bad} for each in asked])
    return path


def prefers(model: str, messages) -> float:
    """The base finds the worse output more probable in every second row, the tuned model nowhere."""
    text = messages[-1]["content"]
    row = int(messages[-2]["content"].removeprefix("q"))
    return -1.0 if (text == "good") == (model.endswith("tuned") or row % 2 == 0) else -3.0


def test_of_preferences_it_is_told_whether_the_preferred_output_has_become_more_probable(tmp_path: Path) -> None:
    models = FakeModels(lambda *_: "good", logprob=prefers)
    config = evaluation(tmp_path, preferences(tmp_path / "p.jsonl", 20), measures_perplexity=True)
    outcome, events = run_evaluation(config, models)
    base, tuned = outcome.result["models"]
    values = [{score["name"]: score["value"] for score in model["scores"]} for model in (base, tuned)]
    assert [(each["preference_accuracy"], each["preference_margin"]) for each in values] == [(0.5, 0.0), (1.0, 2.0)]
    assert base["preference_text"].endswith(" of the rows, mean margin 0 nats")
    assert "in 100 % (100 to 100) of the rows, mean margin 2 nats (share: better by 50 ± " in tuned["preference_text"]
    assert "; margin: better by 2 ± " in tuned["preference_text"]
    assert tuned["preference_text"].endswith(", larger in 10 of 20 rows)")
    # What is written is the same; what was learned is said beside that.
    assert tuned["verdict_text"].startswith("no significant change")
    assert tuned["preference_text"] in outcome.result["summary"]
    assert outcome.metrics["preference_accuracy_1"] == 1.0
    # Each model is asked for an answer and about both outputs of a row.
    assert [event.fields["total_answers"] for event in events if event.kind == "answering_started"] == [20 * 2 * 3]
    assert len(models.judged) == 80


def test_a_preference_of_which_one_output_cannot_be_judged_makes_no_difference(tmp_path: Path) -> None:
    models = FakeModels(lambda *_: "good", logprob=prefers)
    models.refuse_to_judge = {3: TOO_LONG}
    config = evaluation(tmp_path, preferences(tmp_path / "p.jsonl", 4), measures_perplexity=True)
    _, tuned = run_evaluation(config, models)[0].result["models"]
    found = {score["name"]: score for score in tuned["scores"]}
    assert (found["preference_accuracy"]["value"], found["preference_margin"]["value"]) == (0.75, 1.5)
    assert found["preference_margin"]["ungraded_count"] == 1
    assert tuned["preference_text"].endswith(" (4 rows say too little; give at least 10)")
    lines = [json.loads(line) for line in (tmp_path / "output" / "rows.jsonl").read_text().splitlines()]
    assert lines[2]["answers"][0]["ungraded"]["preference_margin"] == "messages: too long"


def test_without_perplexity_outputs_are_not_judged(tmp_path: Path) -> None:
    models = FakeModels(lambda *_: "good", logprob=prefers)
    config = evaluation(tmp_path, preferences(tmp_path / "p.jsonl", 10))
    result = run_evaluation(config, models)[0].result
    assert models.judged == []
    assert all("preference_text" not in model for model in result["models"])


def test_other_outputs_that_were_judged_are_not_judged_again(tmp_path: Path) -> None:
    config = evaluation(tmp_path, preferences(tmp_path / "p.jsonl", 10), measures_perplexity=True)
    whole, _ = run_evaluation(config, FakeModels(lambda *_: "good", logprob=prefers))
    (config.answers / "worse-1.jsonl").unlink()
    models = FakeModels(lambda *_: "good", logprob=prefers)
    assert run_evaluation(config, models)[0].result == whole.result
    assert models.judged == [("loaded/tuned", row) for row in range(1, 11)]


def test_rows_with_tools_fail_where_a_model_has_none_and_the_others_are_asked(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    write(data, [chat("q1", "odd", tools=[{"type": "function", "function": {"name": "f"}}]), chat("q2", "even")])
    models = FakeModels(parity, {1: [NO_TOOLS]})
    models.refuse_to_judge = {1: NO_TOOLS}
    config = evaluation(tmp_path, data, models=("base",), measures_perplexity=True)
    (base,) = run_evaluation(config, models)[0].result["models"]
    assert (base["answered_count"], base["failed_count"], base["perplexity"]["unscored_count"]) == (1, 1, 1)
    assert (models.asked, models.judged) == ([("loaded/base", 2)], [("loaded/base", 2)])
    lines = [json.loads(line) for line in (tmp_path / "output" / "rows.jsonl").read_text().splitlines()]
    assert lines[0]["answers"][0]["error"] == {"reason": "TOOLS_UNSUPPORTED", "message": NO_TOOLS.message}
    made = run_generation(generation(tmp_path / "made", data), FakeModels(parity, {1: [NO_TOOLS]})).result
    assert (made["answered_count"], made["failed_rows"][0]["reason"]) == (1, "TOOLS_UNSUPPORTED")


def test_several_steps_are_compared_and_the_best_is_named(tmp_path: Path, data: Path) -> None:
    right = {"base": 10, "early": 16, "late": 12}

    def rule(model: str, messages) -> str:
        row = int(messages[-1]["content"].removeprefix("q"))
        known = "even" if row % 2 == 0 else "odd"
        return known if row <= right[model.removeprefix("loaded/")] else "neither"

    models = ("base", "early", "late")
    config = evaluation(tmp_path, data, models=models, steps={"early": 5, "late": 10})
    result = run_evaluation(config, FakeModels(rule))[0].result
    assert [model.get("step") for model in result["models"]] == [None, 5, 10]
    assert (result["best"]["model"], result["best"]["step"]) == ("early", 5)
    assert result["best"]["text"].startswith("early (step 5) does best with exact_match 80 % (")
    assert "against the last one, late (step 10): better by 20 ± " in result["best"]["text"]
    assert "late (step 10): " in result["summary"]
    assert result["summary"].endswith(f" {result['best']['text']}.")


def test_data_that_several_checkpoints_have_learned_is_told_for_each(tmp_path: Path, data: Path) -> None:
    models = ("base", "early", "late")
    config = evaluation(tmp_path, data, models=models, trained_on={name: {"datasets/b": data} for name in models[1:]})
    config = dataclasses.replace(config, max_rows=2)
    found = run_evaluation(config, FakeModels(lambda *_: "odd"))[0].result["leaks"]
    assert [(leak["model"], leak["rows"]) for leak in found] == [("early", [1, 2]), ("late", [1, 2])]


def test_a_model_that_can_judge_nothing_has_no_perplexity(tmp_path: Path, data: Path) -> None:
    models = FakeModels(parity)
    models.refuse_to_judge = dict.fromkeys(range(1, 21), TOO_LONG)
    outcome, _ = run_evaluation(evaluation(tmp_path, data, measures_perplexity=True), models)
    assert all("perplexity" not in model for model in outcome.result["models"])
    assert "perplexity_0" not in outcome.metrics


def test_a_model_that_cannot_be_loaded_ends_the_run(tmp_path: Path, data: Path) -> None:
    with pytest.raises(NotFound, match="models/x does not exist"):
        run_evaluation(evaluation(tmp_path, data), FakeModels(parity, {0: [NotFound("MODEL_NOT_FOUND", "models/x")]}))


def test_no_answer_at_all_is_a_failure_that_names_the_first_row(tmp_path: Path, data: Path) -> None:
    trouble = {row: [TOO_LONG] for row in range(1, 21)}
    with pytest.raises(ServiceError, match="base could answer no row; row 1: messages: too long") as caught:
        run_evaluation(evaluation(tmp_path, data), FakeModels(parity, trouble))
    assert caught.value.reason == "NOTHING_ANSWERED"


def test_judges_are_asked_about_every_answer_there_is(tmp_path: Path, data: Path) -> None:
    judge = ScoreModel("quality", "judge", (Turn("user", "{{sample.output_text}} to {{item.prompt}}?"),), 0, 10)
    broken = ScoreModel("broken", "judge", (Turn("user", "{{item.nothing}}"),))
    graders = (judge, broken, StringCheck("same", "{{sample.output_text}}", "{{item.reference}}", "EQ"))

    def rule(model: str, messages) -> str:
        return f"Score: {len(messages[0]['content'])}" if model == "loaded/judge" else parity(model, messages)

    models = FakeModels(rule, {3: [TOO_LONG]})
    outcome, events = run_evaluation(evaluation(tmp_path, data, graders, models=("base",), max_rows=4), models)
    scores = {score["name"]: score for score in outcome.result["models"][0]["scores"]}
    # "odd to q1?" has 10 characters; row 3 was not answered.
    assert (scores["quality"]["value"], scores["quality"]["ungraded_count"]) == (7.5, 1)
    assert (scores["broken"]["value"], scores["broken"]["ungraded_count"]) == (0.0, 4)
    assert (outcome.result["primary_score"], scores["same"]["value"]) == ("quality", 0.25)
    assert [row for model, row in models.asked if model == "loaded/judge"] == [1, 2, 4]
    assert events[-1].fields["step"] == 12


def test_what_a_judge_thought_of_another_version_is_no_opinion_on_this_one(tmp_path: Path, data: Path) -> None:
    class Released(FakeModels):
        """An alias that points to a version."""

        version = "v1"

        async def load(self, model: str) -> str:
            return f"models/m/{self.version}" if model == "alias" else f"loaded/{model}"

    def rule(model: str, messages) -> str:
        said = messages[-1]["content"]
        return {"v1": "bad", "v2": "good"}[model[-2:]] if "judge" not in model else str(int(said == "good"))

    judge = ScoreModel("quality", "judge", (Turn("user", "{{sample.output_text}}"),))
    config = evaluation(tmp_path, data, (judge,), models=("alias",), max_rows=4)
    first, second = Released(rule), Released(rule)
    second.version = "v2"
    values = [run_evaluation(config, models)[0].result["models"][0]["scores"][0]["value"] for models in (first, second, second)]
    assert values == [0.0, 1.0, 1.0]
    assert len(second.asked) == 8


def test_answers_that_stand_in_the_rows_are_graded_and_no_model_is_asked(tmp_path: Path, data: Path) -> None:
    given = [{"output_text": "even"}, {"output_text": "no"}, {}, None]
    write(data, [chat("q", "even", **({} if sample is None else {"sample": sample}), item={"n": 1}) for sample in given])
    same = StringCheck("same", "{{sample.output_text}}", "{{item.reference}}", "EQ")
    models = FakeModels(parity)
    outcome, events = run_evaluation(evaluation(tmp_path, data, (same,), models=()), models)
    assert models.asked == []
    (told,) = outcome.result["models"]
    assert (told["model"], told["answered_count"], told["passed_count"], told["errored_count"]) == ("recorded", 2, 1, 2)
    rows = [json.loads(line) for line in (tmp_path / "output" / "rows.jsonl").read_text().splitlines()]
    assert [row["beside"] for row in rows[:1]] == [{"sample": {"output_text": "even"}, "item": {"n": 1}}]
    assert rows[2]["answers"][0]["error"] == {"reason": "INVALID_FIELD", "message": "the row has no text sample.output_text"}
    assert events[0].fields["models"] == ["recorded"]


def test_a_judge_is_asked_about_answers_that_stand_in_the_rows(tmp_path: Path, data: Path) -> None:
    judge = ScoreModel("quality", "judge", (Turn("user", "{{sample.output_text}}?"),), 0, 10)
    write(data, [chat("q", "a", sample={"output_text": "yes"})])
    models = FakeModels(lambda _, messages: str(len(messages[0]["content"])))
    outcome, _ = run_evaluation(evaluation(tmp_path, data, (judge,), models=()), models)
    assert outcome.result["models"][0]["scores"][0]["value"] == 4.0
    assert models.asked == [("loaded/judge", 1)]


def test_a_judge_with_labels_can_say_nothing_else(tmp_path: Path, data: Path) -> None:
    turns = (Turn("user", "{{sample.output_text}}"),)
    judge = ScoreModel("kind", "judge", turns, max_tokens=9, labels=("even", "odd"), passing_labels=("even",))
    write(data, [chat("q", "a", sample={"output_text": text}) for text in ("even", "odd", "neither")])
    models = FakeModels(lambda _, messages: messages[0]["content"])
    outcome, _ = run_evaluation(evaluation(tmp_path, data, (judge,), models=()), models)
    (told,) = outcome.result["models"]
    (score,) = [each for each in told["scores"] if each["name"] == "kind"]
    assert (score["pass_rate"], score["ungraded_count"]) == (1 / 3, 1)
    assert {(sampling.max_tokens, sampling.temperature, sampling.regex) for sampling in models.samplings} == {
        (9, 0.0, "even|odd")
    }


def test_rows_that_a_model_has_learned_are_told(tmp_path: Path, data: Path) -> None:
    learned = tmp_path / "learned.jsonl"
    write(learned, [chat("Q3", "odd"), chat("other", "odd")])
    config = evaluation(tmp_path, data, trained_on={"tuned": {"datasets/a": learned, "datasets/b": data}})
    leaks = run_evaluation(config, FakeModels(parity))[0].result["leaks"]
    assert [(leak["dataset"], leak["row_count"]) for leak in leaks] == [("datasets/a", 1), ("datasets/b", 20)]
    assert leaks[0] == {"model": "tuned", "dataset": "datasets/a", "row_count": 1, "rows": [3]}


def test_rows_that_a_model_held_out_of_its_data_are_no_leak(tmp_path: Path) -> None:
    rows = [chat(f"q{number}", "odd") for number in range(40)]
    learned, training, held_out = (tmp_path / f"{name}.jsonl" for name in ("learned", "training", "held_out"))
    write(learned, rows)
    Composer([Part(learned, 1.0)], seed=5).compose(0.3, training, held_out)
    trained_on = {"tuned": {"datasets/a": learned}}
    split = {"tuned": Split(0.3, 5)}
    asked = evaluation(tmp_path / "held", held_out, trained_on=trained_on, splits=split)
    assert run_evaluation(asked, FakeModels(parity))[0].result["leaks"] == []
    # Of the rows that it did learn nothing is forgiven, nor of a model that learned all.
    seen = evaluation(tmp_path / "seen", training, trained_on=trained_on, splits=split)
    assert [leak["row_count"] for leak in run_evaluation(seen, FakeModels(parity))[0].result["leaks"]] == [28]
    whole = evaluation(tmp_path / "whole", held_out, trained_on=trained_on)
    assert [leak["row_count"] for leak in run_evaluation(whole, FakeModels(parity))[0].result["leaks"]] == [12]


def test_an_empty_dataset_is_no_work(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("")
    for config, run in ((evaluation(tmp_path, data), run_evaluation), (generation(tmp_path, data), run_generation)):
        with pytest.raises(ServiceError) as caught:
            run(config, FakeModels(parity))
        assert caught.value.reason == "NOTHING_TO_ASK"


def test_the_configuration_of_both_kinds(tmp_path: Path) -> None:
    spec = {"models": ["a", "b"], "dataset": "datasets/x", "graders": [{"name": "eq", "string_check": {"operation": "EQ"}}]}
    common = {"data": "/d", "trained_on": {"b": {"datasets/y": "/y"}}, "splits": {"b": {"ratio": 0.1, "seed": 7}}}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(common | {"spec": {"evaluation": spec | {"sampling": {"max_tokens": 5}, "max_rows": "7"}}}))
    found = load_config(path)
    assert isinstance(found, EvaluationConfig)
    assert (found.models, found.sampling, found.max_rows) == (("a", "b"), Sampling(5), 7)
    assert found.graders == (StringCheck("eq", "{{sample.said}}", "{{item.reference}}", "EQ"),)
    assert found.trained_on == {"b": {"datasets/y": Path("/y")}}
    assert found.splits == {"b": Split(0.1, 7)}
    assert found.answers == tmp_path / "answers"
    assert found.measures_perplexity
    assert found.steps == {}
    path.write_text(json.dumps(common | {"spec": {"evaluation": spec}, "steps": {"b": 7}}))
    assert load_config(path).steps == {"b": 7}
    path.write_text(json.dumps(common | {"spec": {"evaluation": spec | {"perplexity": False}}}))
    assert not load_config(path).measures_perplexity
    path.write_text(json.dumps(common | {"spec": {"generation": {"model": "a", "dataset": "datasets/x", "system_prompt": "s"}}}))
    other = load_config(path)
    assert isinstance(other, GenerationConfig)
    assert (other.model, other.system_prompt, other.max_rows) == ("a", "s", None)


def test_the_outcome_is_what_the_face_reads(tmp_path: Path, data: Path) -> None:
    config = evaluation(tmp_path, data)
    outcome, _ = run_evaluation(config, FakeModels(parity))
    save_outcome(outcome, tmp_path)
    record = json.loads((tmp_path / "result.json").read_text())
    assert (record["kind"], record["step"]) == ("EVALUATION", 40)
    assert record["evaluation"] == json.loads((tmp_path / "output" / "summary.json").read_text())
    assert record["metrics"]["exact_match_0"] == 0.5
