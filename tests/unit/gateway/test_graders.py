"""Graders tried on one answer: the number, its parts, what went wrong; what makes no sense is refused by place."""

import json

import pytest

from services.gateway import identifiers
from services.gateway.grader_request import LONGEST_TEXT
from tests.fake_platform import refuse
from tunesmith.v1.inference_service_pb2 import ChatMessage, ChatResponse, ChatUsage

GRADERS = "/v1/fine_tuning/alpha/graders"
EQUAL = {
    "type": "string_check",
    "name": "Is it right?",
    "operation": "eq",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
}
ALIKE = {
    "type": "text_similarity",
    "name": "alike",
    "evaluation_metric": "f1",
    "input": "{{ sample.output_text }}",
    "reference": "a b",
}
JUDGE = {
    "type": "score_model",
    "name": "judge",
    "model": "tiny",
    "input": [{"role": "user", "content": "Rate {{sample.output_text}}"}],
    "range": [0, 10],
}
LABEL = {
    "type": "label_model",
    "name": "kind",
    "model": "tiny",
    "input": [{"role": "user", "content": "Is {{sample.output_text}} a town?"}],
    "labels": ["town", "no town"],
    "passing_labels": ["town"],
}
BOTH = {"type": "multi", "name": "both", "graders": {"same": EQUAL, "alike": ALIKE}, "calculate_output": "0.5 * same + alike / 2"}


async def run(http, grader, sample="Paris", **item):
    answer = await http.post(f"{GRADERS}/run", json={"grader": grader, "model_sample": sample, "item": item})
    assert answer.status_code == 200, answer.text
    return answer.json()


def wrong(answer: dict) -> list[str]:
    return [name for name, value in answer["metadata"]["errors"].items() if value]


@pytest.fixture
def judged(platform):
    """Sets what the model of a grader says; answers with the list of what it is asked."""

    def says(text, *, tokens=5):
        def chat(request, context):
            message, usage = ChatMessage(role="assistant", content=text), ChatUsage(prompt_tokens=tokens, completion_tokens=1)
            return ChatResponse(message=message, usage=usage)

        platform.inference.chat_script = chat
        return platform.inference.asked

    return says


@pytest.mark.parametrize(("answer", "reward"), [("Paris", 1.0), ("paris", 0.0)])
async def test_a_check_is_right_or_wrong(http, answer: str, reward: float) -> None:
    told = await run(http, EQUAL, answer, answer="Paris")
    assert (told["reward"], told["sub_rewards"], wrong(told)) == (reward, {}, [])
    metadata = told["metadata"]
    assert metadata["execution_time"] >= 0
    assert (metadata["name"], metadata["type"], metadata["scores"]) == ("Is it right?", "string_check", {"Is it right?": reward})
    assert (metadata["token_usage"], metadata["sampled_model_name"]) == (None, None)


@pytest.mark.parametrize(
    ("operation", "reference", "reward"),
    [("ne", "Paris", 0.0), ("ne", "Rome", 1.0), ("like", "ari", 1.0), ("like", "ARI", 0.0), ("ilike", "ARI", 1.0)],
)
async def test_texts_are_compared_in_every_way(http, operation: str, reference: str, reward: float) -> None:
    told = await run(http, {**EQUAL, "operation": operation}, answer=reference)
    assert told["reward"] == reward


async def test_likeness_is_a_share(http) -> None:
    assert (await run(http, ALIKE, "a c"))["reward"] == 0.5
    assert (await run(http, {**ALIKE, "evaluation_metric": "rouge_l"}, "a b"))["reward"] == 1.0


async def test_numbers_of_several_graders_are_combined(http) -> None:
    told = await run(http, BOTH, "a c", answer="a c")
    assert (told["reward"], told["sub_rewards"], wrong(told)) == (0.75, {"same": 1.0, "alike": 0.5}, [])
    assert told["metadata"]["scores"] == {"same": 1.0, "alike": 0.5, "both": 0.75}


async def test_a_single_grader_stands_for_an_object_of_one(http) -> None:
    told = await run(http, {**BOTH, "graders": ALIKE, "calculate_output": "2 * alike"}, "a c")
    assert told["reward"] == 1.0


async def test_a_sample_is_a_choice_too_and_powers_are_written_as_openai_does(http) -> None:
    choice = {**EQUAL, "input": "{{sample.choices[0].message.content}} {{sample.choices[0].finish_reason}}"}
    assert (await run(http, choice, answer="Paris stop"))["reward"] == 1.0
    assert (await run(http, {**BOTH, "calculate_output": "2 * alike ^ 2"}, "a c", answer="x"))["reward"] == 0.5


async def test_a_model_can_be_asked_about_half_a_character_that_a_sample_spells(http, judged) -> None:
    asked = judged("7")
    question = [{"role": "user", "content": "{{sample.output_json.a}}?"}]
    told = await run(http, {**JUDGE, "input": question}, '{"a": "x\\ud83d"}')
    assert (told["reward"], asked[-1].messages[0].content) == (7.0, "x\\ud83d?")


async def test_a_model_is_asked_for_the_number(http, judged) -> None:
    asked = judged("I give it 7 of 10.")
    told = await run(http, {**JUDGE, "sampling_params": {"max_completions_tokens": 9, "seed": 1}})
    assert (told["reward"], wrong(told)) == (7.0, [])
    assert told["model_grader_token_usage_per_model"] == {"tiny": 6}
    assert (told["metadata"]["token_usage"], told["metadata"]["sampled_model_name"]) == (6, "tiny")
    (question,) = asked
    assert [(turn.role, turn.content) for turn in question.messages] == [("user", "Rate Paris")]
    assert (question.model, question.temperature, question.max_tokens) == ("tiny", 0.0, 9)


@pytest.mark.parametrize(("label", "reward"), [("town", 1.0), ("no town", 0.0)])
async def test_a_model_is_asked_for_a_label_and_can_say_nothing_else(http, judged, label: str, reward: float) -> None:
    asked = judged(label)
    told = await run(http, LABEL)
    assert (told["reward"], wrong(told), told["metadata"]["sampled_model_name"]) == (reward, [], "tiny")
    (question,) = asked
    assert (question.messages[0].content, question.temperature) == ("Is Paris a town?", 0)
    assert question.response_format.regex == "town|no\\ town"


async def test_a_label_that_was_cut_short_is_none(http, judged) -> None:
    judged("no to")
    told = await run(http, LABEL)
    assert (told["reward"], wrong(told)) == (0.0, ["model_grader_parse_error"])


async def test_a_label_counts_among_other_numbers(http, judged) -> None:
    judged("town")
    both = {**BOTH, "graders": {"same": EQUAL, "kind": LABEL}, "calculate_output": "(same + kind) / 2"}
    assert (await run(http, both, answer="Rome"))["reward"] == 0.5


async def test_the_number_stays_in_the_range(http, judged) -> None:
    judged("11")
    assert (await run(http, JUDGE))["reward"] == 10.0


async def test_parts_of_texts_and_developers_are_understood(http, judged) -> None:
    asked = judged("1")
    parts = [{"type": "input_text", "text": "Is {{item.x}} "}, "good?"]
    turns = [{"role": "developer", "content": "Be strict."}, {"role": "user", "content": parts}]
    await run(http, {**JUDGE, "input": turns}, x={"a": 1})
    assert [(turn.role, turn.content) for turn in asked[0].messages] == [("system", "Be strict."), ("user", 'Is {"a": 1} good?')]


async def test_a_tuned_model_judges_by_the_name_inference_has_for_it(http, platform, judged) -> None:
    asked = judged("1")
    task = platform.tasks.add()
    tuned = identifiers.tuned_model_id("tiny", "org", "x", task.name)
    told = await run(http, {**JUDGE, "model": tuned})
    assert (asked[0].model, told["metadata"]["sampled_model_name"]) == (task.name, tuned)


async def test_what_the_item_does_not_have_is_told(http, judged) -> None:
    asked = judged("1")
    assert wrong(told := await run(http, EQUAL, other="x")) == ["invalid_variable_error"]
    assert told["reward"] == 0.0
    told = await run(http, {**JUDGE, "input": [{"role": "user", "content": "{{item.x}}"}], "range": [1, 5]})
    assert (told["reward"], wrong(told), asked) == (1.0, ["invalid_variable_error"], [])


async def test_an_answer_that_is_no_json_has_no_keys(http) -> None:
    grader = {**EQUAL, "input": "{{sample.output_json.city}}"}
    assert (await run(http, grader, '{"city": "Rome"}', answer="Rome"))["reward"] == 1.0
    told = await run(http, grader, "Rome", answer="Rome")
    assert (told["reward"], wrong(told)) == (0.0, ["sample_parse_error"])


async def test_a_model_without_a_number_has_not_graded(http, judged) -> None:
    judged("good")
    assert wrong(await run(http, JUDGE)) == ["model_grader_parse_error"]


async def test_a_model_that_is_away_is_told_with_the_reason(http, platform) -> None:
    def away(request, context):
        refuse(context, "UNAVAILABLE", "SHUTTING_DOWN", "it shuts down", "Wait.", error_class="transient")

    platform.inference.chat_script = away
    told = await run(http, {**BOTH, "graders": {"judge": JUDGE, "alike": ALIKE}, "calculate_output": "judge + alike"}, "a b")
    assert (told["reward"], told["sub_rewards"]) == (0.0, {"judge": 0.0, "alike": 1.0})
    assert wrong(told) == ["model_grader_server_error", "model_grader_server_error_details"]
    assert "it shuts down" in told["metadata"]["errors"]["model_grader_server_error_details"]


async def test_a_model_that_does_not_exist_is_not_found(http, platform) -> None:
    def missing(request, context):
        refuse(context, "NOT_FOUND", "MODEL_NOT_FOUND", "there is no tiny", "List them.")

    platform.inference.chat_script = missing
    answer = await http.post(f"{GRADERS}/run", json={"grader": JUDGE, "model_sample": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_formula_without_a_value_is_told(http) -> None:
    told = await run(http, {**BOTH, "calculate_output": "1 / same + alike"}, "x", answer="y")
    assert (told["reward"], wrong(told)) == (0.0, ["formula_parse_error"])


async def test_a_value_is_never_a_reference(http) -> None:
    told = await run(http, EQUAL, "{{item.answer}}", answer="secret")
    assert told["reward"] == 0.0


@pytest.mark.parametrize("grader", [EQUAL, ALIKE, JUDGE, LABEL, BOTH], ids=lambda grader: grader["type"])
async def test_a_good_grader_is_told_as_it_was_given(http, platform, grader: dict) -> None:
    answer = await http.post(f"{GRADERS}/validate", json={"grader": grader})
    assert (answer.status_code, answer.json()) == (200, {"grader": grader})
    assert platform.inference.asked == []


@pytest.mark.parametrize(
    ("grader", "parameter"),
    [
        ({}, "grader"),
        ({**EQUAL, "name": ""}, "grader.name"),
        ({**EQUAL, "type": "exact"}, "grader.type"),
        ({**EQUAL, "type": "python", "source": "def grade(): ..."}, "grader.type"),
        ({**LABEL, "labels": None}, "grader.labels"),
        ({**LABEL, "labels": "town"}, "grader.labels"),
        ({**LABEL, "labels": ["town"]}, "grader.labels"),
        ({**LABEL, "labels": ["town", 1]}, "grader.labels[1]"),
        ({**LABEL, "labels": ["town", "no\ntown"]}, "grader.labels[1]"),
        ({**LABEL, "passing_labels": []}, "grader.passing_labels"),
        ({**LABEL, "passing_labels": ["city"]}, "grader.passing_labels[0]"),
        ({**LABEL, "range": [0, 2]}, "grader.labels"),
        ({**LABEL, "input": []}, "grader.input"),
        ({**BOTH, "graders": {"kind": {**LABEL, "labels": ["x"]}}, "calculate_output": "kind"}, "grader.graders.kind.labels"),
        ({**EQUAL, "operation": "is"}, "grader.operation"),
        ({**EQUAL, "input": ""}, "grader.input"),
        ({**EQUAL, "reference": "{{answer}}"}, "grader.reference"),
        ({**EQUAL, "input": "{{sample.output_audio}}"}, "grader.input"),
        ({**EQUAL, "input": "x" * 10_001}, "grader.input"),
        ({**ALIKE, "evaluation_metric": "cosine"}, "grader.evaluation_metric"),
        ({**ALIKE, "evaluation_metric": "same"}, "grader.evaluation_metric"),
        ({**ALIKE, "pass_threshold": 2}, "grader.pass_threshold"),
        ({**JUDGE, "model": None}, "grader.model"),
        ({**JUDGE, "range": [1]}, "grader.range"),
        ({**JUDGE, "range": [1, True]}, "grader.range"),
        ({**JUDGE, "range": [2, 1]}, "grader.range"),
        ({**JUDGE, "range": [0, 10**400]}, "grader.range"),
        ({**JUDGE, "input": "Rate it"}, "grader.input"),
        ({**JUDGE, "input": ["Rate it"]}, "grader.input[0]"),
        ({**JUDGE, "input": [{"role": "judge", "content": "x"}]}, "grader.input[0].role"),
        ({**JUDGE, "input": [{"role": "user", "content": 1}]}, "grader.input[0].content"),
        ({**JUDGE, "input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "grader.input[0].content[0].type"),
        ({**JUDGE, "input": [{"role": "user", "content": "{{x}}"}]}, "grader.input[0].content"),
        ({**JUDGE, "sampling_params": {"temperature": 1}}, "grader.sampling_params.temperature"),
        ({**JUDGE, "sampling_params": {"reasoning_effort": "low"}}, "grader.sampling_params.reasoning_effort"),
        ({**JUDGE, "sampling_params": {"max_completions_tokens": 0}}, "grader.sampling_params.max_completions_tokens"),
        ({**BOTH, "graders": {}}, "grader.graders"),
        ({**BOTH, "graders": {"Same": EQUAL}}, "grader.graders.Same.name"),
        ({**BOTH, "graders": {"same": "x"}}, "grader.graders.same"),
        ({**BOTH, "graders": {"same": {**EQUAL, "operation": "is"}}}, "grader.graders.same.operation"),
        ({**BOTH, "graders": {"same": {**EQUAL, "input": "{{x}}"}}}, "grader.graders.same.input"),
        ({**BOTH, "graders": {"both": BOTH}}, "grader.graders.both"),
        ({**BOTH, "calculate_output": "same + other"}, "grader.calculate_output"),
        ({**BOTH, "calculate_output": "__import__('os')"}, "grader.calculate_output"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "validate"])
async def test_a_grader_that_makes_no_sense_is_refused_by_place(http, verb: str, grader: dict, parameter: str) -> None:
    answer = await http.post(f"{GRADERS}/{verb}", json={"grader": grader, "model_sample": "x"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, parameter), answer.text


async def test_code_of_callers_is_refused_with_the_reason(http) -> None:
    answer = await http.post(f"{GRADERS}/validate", json={"grader": {"type": "python", "name": "x", "source": "1"}})
    assert "code of callers is not run here" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ({"model_sample": None}, "model_sample"),
        ({"model_sample": 1}, "model_sample"),
        ({"model_sample": "x" * (LONGEST_TEXT + 1)}, "model_sample"),
        ({"item": "x"}, "item"),
        ({"item": {"x": "x" * LONGEST_TEXT}}, "item"),
        ({"item": {"answer": "x" * 60_000}, "grader": {**EQUAL, "input": "{{item.answer}}{{item.answer}}"}}, "grader"),
        (
            {
                "item": {"answer": "x" * 60_000},
                "grader": {
                    **BOTH,
                    "graders": {"same": {**EQUAL, "reference": "{{item.answer}}" * 2}},
                    "calculate_output": "same",
                },
            },
            "grader",
        ),
        ({"reference_answer": "x"}, "reference_answer"),
    ],
)
async def test_what_cannot_be_graded_is_refused(http, body: dict, parameter: str) -> None:
    answer = await http.post(f"{GRADERS}/run", json={"grader": EQUAL, "model_sample": "x", **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, parameter), answer.text


async def test_what_changes_nothing_is_named_in_a_header(http) -> None:
    body = {"grader": EQUAL, "model_sample": "x", "item": {"answer": "x"}, "other": 1}
    answer = await http.post(f"{GRADERS}/run", json=body)
    assert answer.headers["x-tunesmith-ignored"] == "other"


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "NaN"])
async def test_a_range_has_ends(http, number: str) -> None:
    body = json.dumps({"grader": {**JUDGE, "range": [0, "END"]}, "model_sample": "x"}).replace('"END"', number)
    answer = await http.post(f"{GRADERS}/run", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "grader.range")


@pytest.mark.parametrize("depth", range(100, 1000, 50))
async def test_a_deep_item_is_graded_or_refused(http, depth: int) -> None:
    item = '{"answer": ' + "[" * depth + "]" * depth + "}"
    body = json.dumps({"grader": EQUAL, "model_sample": "x", "item": "ITEM"}).replace('"ITEM"', item)
    answer = await http.post(f"{GRADERS}/run", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (200, 400), answer.text


async def test_an_empty_answer_is_an_answer(http) -> None:
    assert (await run(http, EQUAL, "", answer=""))["reward"] == 1.0
