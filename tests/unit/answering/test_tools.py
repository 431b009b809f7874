"""Rows with tools: asked as training shows them, compared by what is called, and kept as a row that can be trained on."""

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from chat_families import FAMILIES
from tiny_model import make_tiny_model

from services.common.channels import connect
from services.common.grading.graders import OUTPUT, REFERENCE, StringCheck
from services.common.grading.sampling import Sampling
from services.common.rendering import render_row
from services.inference.conversion import chat_question, scored_question
from services.inference.ready_model import ReadyModel
from services.inference.registry import Registry
from services.inference.request import judgement_for, prompt_ids
from services.storage.checking.example import Format
from services.storage.checking.row import read_value
from services.trainer.answering.answer_file import AnswerFile
from services.trainer.answering.asking import Asker
from services.trainer.answering.generation import ANSWERS, GENERATED
from services.trainer.answering.inference import Inference, Question
from services.trainer.answering.recorded import RecordedAnswers
from services.trainer.answering.rows import question_and_answer, read_items, to_answer
from services.trainer.evaluating.turns import said
from services.trainer.evaluating.values import Item
from tests.unit.answering.fake_models import FakeModels
from tests.unit.answering.scripted_inference import Service
from tests.unit.answering.scripted_runs import evaluation, generation, run_evaluation, run_generation, write
from tests.unit.inference.inference_fakes import FakeEngine, files_of
from tunesmith.v1.inference_service_pb2 import ToolChoice

LAMP = {
    "type": "function",
    "function": {
        "name": "lamp",
        "description": "Switches.",
        "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}, "hall": {"type": "string"}}},
    },
}
BARE = {"function": {"strict": True, "name": "bell"}, "type": "function"}
ASK = {"role": "user", "content": "Light?"}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "on"}
# It writes whose a tool's turn is, as some templates do.
NAMING = FAMILIES["qwen3"].template.replace("<tool_response>\\n' + m.content", "<tool_response>\\n' + m.name + ': ' + m.content")


def call(name: str, arguments: str, ident: str = "c1") -> dict[str, Any]:
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*made: dict[str, Any], content: str | None = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(made)}


ON = calls(call("lamp", '{"on": true, "hall": "ä"}'))
DONE = {"role": "assistant", "content": "It is on."}
ROWS = {
    "call": {"messages": [ASK, ON], "tools": [LAMP]},
    "text and call": {"messages": [ASK, calls(call("lamp", "{}"), content="A moment.")], "tools": [LAMP]},
    "answer behind a result": {"messages": [ASK, ON, RESULT, DONE], "tools": [LAMP, BARE], "parallel_tool_calls": False},
    "named result": {"messages": [ASK, ON, RESULT | {"name": "gong"}, DONE], "tools": [LAMP]},
    "second call": {"messages": [ASK, ON, RESULT, DONE, ASK, calls(call("bell", "{}", "c2"))], "tools": [BARE]},
    "tools that are not called": {"messages": [ASK, DONE], "tools": [LAMP]},
    "calls of no declared tools": {"messages": [ASK, ON, RESULT, DONE]},
    "preference": {
        "input": {"messages": [ASK], "tools": [LAMP]},
        "preferred_output": [ON],
        "non_preferred_output": [DONE],
    },
}


@pytest.fixture(scope="module", params=[FAMILIES["qwen3"].template, NAMING], ids=["qwen3", "naming"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ReadyModel:
    """As inference holds it; its renderer is the one that training makes of the same files."""
    directory = make_tiny_model(tmp_path_factory.mktemp("tools"), chat_template=request.param)
    registry = Registry(FakeEngine(), max_bytes=10**9, now=lambda: datetime.datetime(2026, 1, 1))
    return registry.hold(object(), files_of("tools", directory))


def item_of(tmp_path: Path, row: dict[str, Any]) -> Item:
    write(tmp_path / "row.jsonl", [row])
    (item,) = read_items(tmp_path / "row.jsonl", question_and_answer, most=None, system="")
    return item


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
async def test_a_question_is_the_beginning_of_what_training_shows_and_the_known_answer_is_all_of_it(
    model: ReadyModel, service: Service, address: str, tmp_path: Path, row: dict[str, Any]
) -> None:
    item, trained = item_of(tmp_path, row), render_row(model.renderer, row)[0]
    assert item.known
    async with connect(address) as channel:
        inference = Inference(channel)
        await inference.ask("tiny", Question(1, item.messages, item.tools), Sampling())
        await inference.judge("tiny", Question(1, [*item.messages, item.known], item.tools))
    asked, judged = chat_question(service.asked[0]), scored_question(service.judged[0])
    asked.check()
    judged.check_as_conversation()
    prompt = list(prompt_ids(model, asked))
    assert trained.token_ids[: len(prompt)] == prompt
    found = judgement_for(model, judged)
    assert list(found.request.prompt) == trained.token_ids
    # Of all that training learns, the last turn.
    assert list(found.learned) == [learns and place >= len(prompt) for place, learns in enumerate(trained.loss_mask)]
    assert sum(found.learned) > 1


async def test_what_a_model_calls_comes_with_what_it_says(service: Service, address: str) -> None:
    async with connect(address) as channel:
        answer = await Inference(channel).ask("tiny", Question(3, [ASK], [LAMP]), Sampling())
    assert (answer.text, answer.finish_reason) == ("re: Light?", "TOOL_CALLS")
    assert answer.tool_calls == [call("lamp", '{"n": 1}', "call_1")]
    assert answer.said == 're: Light?\n[{"arguments": {"n": 1}, "name": "lamp"}]'
    assert not service.asked[0].tools[0].strict


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ("auto", ToolChoice(mode=ToolChoice.MODE_AUTO)),
        ("none", ToolChoice(mode=ToolChoice.MODE_NONE)),
        ("required", ToolChoice(mode=ToolChoice.MODE_REQUIRED)),
        ({"type": "function", "function": {"name": "bell"}}, ToolChoice(function="bell")),
    ],
)
async def test_a_row_may_say_whether_tools_are_called(service: Service, address: str, given: Any, expected: Any) -> None:
    async with connect(address) as channel:
        question = Question(1, [ASK], [LAMP, BARE], given, keeps_to_schemas=True)
        await Inference(channel).ask("tiny", question, Sampling())
    (asked,) = service.asked
    assert (asked.tool_choice if asked.HasField("tool_choice") else None) == expected
    assert [tool.strict for tool in asked.tools] == [False, True]


@pytest.mark.parametrize("given", ["maybe", 7, {}, {"type": "function"}, {"function": {"name": 7}}, ["auto"]], ids=repr)
async def test_a_choice_that_is_none_fails_its_row(service: Service, address: str, given: Any, tmp_path: Path) -> None:
    async with connect(address) as channel:
        with AnswerFile.open(tmp_path / "answers", "tiny") as answers:
            asker = Asker(Inference(channel), at_once=1, clock=lambda: 0.0)
            await asker.answer("tiny", [Question(1, [ASK], [LAMP], given)], answers, Sampling(), lambda: None)
            assert (answers[1].reason, answers[1].message.partition(":")[0]) == ("INVALID_FIELD", "tool_choice")
    assert not service.asked


async def test_a_row_whose_tools_a_model_cannot_be_shown_ends_no_other(service: Service, address: str, tmp_path: Path) -> None:
    questions = [Question(row, [{"role": "user", "content": text}], [LAMP]) for row, text in ((1, "no tools"), (2, "Light?"))]
    async with connect(address) as channel:
        with AnswerFile.open(tmp_path / "answers.jsonl", "tiny") as file:
            asker = Asker(Inference(channel), at_once=1, clock=lambda: 0.0)
            await asker.answer("tiny", questions, file, Sampling(), lambda: None)
            failed, answered = file[1], file[2]
    assert (failed.reason, failed.message.partition(" of ")[0]) == ("TOOLS_UNSUPPORTED", "tools: the chat template")
    assert [each["function"]["name"] for each in answered.tool_calls] == ["lamp"]


@pytest.mark.parametrize(
    ("text", "made", "expected"),
    [
        ("hi \n", (), "hi \n"),
        ("", (call("f", '{"b":1,"a":"ä"}'),), '[{"arguments": {"a": "ä", "b": 1}, "name": "f"}]'),
        ("hi\n", (call("f", ""), call("g", "{}", "c2")), 'hi\n[{"arguments": {}, "name": "f"}, {"arguments": {}, "name": "g"}]'),
        ("", (call("f", r'{"a": "\ud800"}'),), r'[{"arguments": {"a": "\ud800"}, "name": "f"}]'),
        ("", (call("f", '{"a": '),), '[{"arguments": "{\\"a\\": ", "name": "f"}]'),
        ("", (call("f", '{"a":' * 100_000),), json.dumps([{"arguments": '{"a":' * 100_000, "name": "f"}])),
    ],
    ids=["text", "call", "text and calls", "half a character", "no JSON", "too deep"],
)
def test_calls_are_compared_by_what_they_say(text: str, made: tuple[dict[str, Any], ...], expected: str) -> None:
    assert said(text, made) == expected
    assert said(text, made).encode()


def tool_rows(path: Path, count: int) -> Path:
    made = [calls(call("lamp", json.dumps({"on": True, "n": number}))) for number in range(count)]
    write(path, [{"messages": [ASK, each], "tools": [LAMP]} for each in made])
    return path


def test_calls_with_the_same_arguments_are_the_same_answer_and_others_share_fields(tmp_path: Path) -> None:
    data = tool_rows(tmp_path / "data.jsonl", 3)
    models = FakeModels(lambda *_: "no call")
    models.calls = {1: [call("lamp", '{"n":0,"on":true}', "other")], 2: [call("lamp", '{"n": 7, "on": true}')]}
    graders = (StringCheck("same", OUTPUT, REFERENCE, "EQ"),)
    graders += (StringCheck("lamps", "{{sample.output_tools[0].function.name}}", "lamp", "EQ"),)
    graders += (StringCheck("wordless", "{{sample.output_text}}", "", "EQ"),)
    config = evaluation(tmp_path, data, graders, models=("base",), measures_perplexity=True)
    (base,) = run_evaluation(config, models)[0].result["models"]
    found = {score["name"]: score["value"] for score in base["scores"]}
    assert (found["exact_match"], found["json_valid"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert found["json_field_f1"] == pytest.approx((1 + 2 / 3) / 3)
    assert (found["same"], found["lamps"], found["wordless"]) == (pytest.approx(1 / 3), *[pytest.approx(2 / 3)] * 2)
    assert base["perplexity"].get("unscored_count", 0) == 0
    # Each was asked with its tools, and judged with its calls.
    assert all(question.tools == [LAMP] for question in models.questions)
    assert sum("tool_calls" in question.messages[-1] for question in models.questions) == 3
    line = json.loads((tmp_path / "output" / "rows.jsonl").read_text().splitlines()[0])
    assert (line["tools"], line["reference"]) == ([LAMP], '[{"arguments": {"n": 0, "on": true}, "name": "lamp"}]')
    (answer,) = line["answers"]
    assert (answer["text"], answer["tool_calls"], answer["said"]) == ("", models.calls[1], line["reference"])


def test_answers_have_room_for_the_longest_known_call_and_its_marks(tmp_path: Path) -> None:
    models = FakeModels(lambda *_: "")
    config = evaluation(tmp_path, tool_rows(tmp_path / "data.jsonl", 1), models=("base",), bounds_answers=True)
    run_evaluation(config, models)
    reference = '[{"arguments": {"n": 0, "on": true}, "name": "lamp"}]'
    assert {sampling.max_tokens for sampling in models.samplings} == {len(reference) + 32 + 32}


def test_a_generation_makes_rows_with_calls_that_can_be_trained_on(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    write(data, [ROWS["call"], {**ROWS["answer behind a result"], "topic": "light"}, ROWS["call"], {"messages": [ASK, DONE]}])
    models = FakeModels(lambda *_: "Yes.")
    models.calls = {1: [call("lamp", '{"on": false}')], 3: [call("", "{}")]}
    result = run_generation(generation(tmp_path, data), models).result
    rows = [json.loads(line) for line in (tmp_path / GENERATED).read_text().splitlines()]
    asked = [ASK, {**ON, "content": ""}, RESULT]
    assert rows == [
        {"messages": [ASK, calls(call("lamp", '{"on": false}'))], "tools": [LAMP]},
        {"messages": [*asked, {**DONE, "content": "Yes."}], "tools": [LAMP, BARE], "parallel_tool_calls": False},
        {"messages": [ASK, {**DONE, "content": "Yes."}]},
    ]
    # A call of nothing is no answer.
    assert [each["row"] for each in result["failed_rows"]] == [3]
    told = [json.loads(line) for line in (tmp_path / "output" / ANSWERS).read_text().splitlines()]
    assert (told[0]["tool_calls"], told[0]["finish_reason"]) == (models.calls[1], "TOOL_CALLS")
    assert "tool_calls" not in told[1]
    for row in rows:
        assert read_value(row, Format.CHAT).learned_characters


RECORDED: dict[str, tuple[dict[str, Any], str | None]] = {
    "call": ({"output_tools": [call("f", "{}")]}, '[{"arguments": {}, "name": "f"}]'),
    "both": ({"output_text": "hi", "output_tools": [call("f", "{}")]}, 'hi\n[{"arguments": {}, "name": "f"}]'),
    "none": ({"output_text": "hi", "output_tools": []}, "hi"),
    "no list": ({"output_text": "hi", "output_tools": "f"}, None),
    "no call": ({"output_tools": [{"name": "f"}]}, None),
    "no name": ({"output_tools": [{"function": {"arguments": "{}"}}]}, None),
    "no arguments": ({"output_tools": [call("f", "[]")]}, None),
}


@pytest.mark.parametrize(("sample", "expected"), RECORDED.values(), ids=RECORDED)
def test_calls_may_stand_in_the_rows(sample: dict[str, Any], expected: str | None) -> None:
    answer = RecordedAnswers([Item(1, (), "", {"sample": sample})])[1]
    assert (answer.said if answer.is_answered else None) == expected
    assert answer.reason == ("" if expected else "INVALID_FIELD")


def test_what_another_speaker_is_called_is_no_name_of_a_tool(tmp_path: Path) -> None:
    write(tmp_path / "row.jsonl", [{"messages": [ASK | {"name": "Ada"}, RESULT | {"name": "lamp"}]}])
    (item,) = read_items(tmp_path / "row.jsonl", to_answer, most=None, system="")
    assert item.messages == (ASK, RESULT | {"name": "lamp"})
