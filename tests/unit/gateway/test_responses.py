"""Responses are chats in another form: what is read reaches inference, what is refused is named as the caller named it."""

import json
import re

import pytest

from services.gateway import response_request
from tests.fake_platform import refuse
from tests.unit.gateway.test_chat import TASK
from tunesmith.v1.inference_service_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP, ChatUsage, StreamChatResponse

RESPONSES = "/v1/responses"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
ANSWER = {"type": "output_text", "text": "echo hello", "annotations": [], "logprobs": []}


def ask(http, **body):
    return http.post(RESPONSES, json={"model": "tiny", "input": "hello", **body})


async def events(http, **body) -> list[dict]:
    answer = await ask(http, stream=True, **body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert re.findall("event: (.*)", answer.text) == [event["type"] for event in told if "type" in event]
    return told


async def test_a_whole_response(http) -> None:
    answer = (await ask(http)).json()
    assert re.fullmatch("resp_[0-9a-f]{32}", answer.pop("id"))
    assert answer.pop("created_at") > 0
    (message,) = answer.pop("output")
    assert re.fullmatch("msg_[0-9a-f]{32}", message.pop("id"))
    assert message == {"type": "message", "role": "assistant", "status": "completed", "content": [ANSWER]}
    assert answer.pop("usage") == {
        "input_tokens": 0,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 2,
    }
    assert answer == {
        "object": "response",
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": "tiny",
        "instructions": None,
        "max_output_tokens": None,
        "temperature": 0,
        "top_p": 1,
        "tool_choice": "auto",
        "metadata": {},
        "tools": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "truncation": "disabled",
        "text": {"format": {"type": "text"}},
    }


async def test_what_was_asked_reaches_inference_and_is_told_again(http, platform) -> None:
    said = {"instructions": "Be brief.", "max_output_tokens": 9, "temperature": 0.5, "top_p": 0.9, "metadata": {"team": "a"}}
    answer = (await ask(http, **said, store=True, tool_choice="none")).json()
    (asked,) = platform.inference.asked
    assert [(each.role, each.content) for each in asked.messages] == [("system", "Be brief."), ("user", "hello")]
    assert (asked.max_tokens, asked.temperature, asked.top_p) == (9, 0.5, 0.9)
    assert said.items() <= answer.items()
    assert (answer["store"], answer["tool_choice"]) == (False, "none")


async def test_a_conversation_of_items_and_parts(http, platform) -> None:
    items = [
        {"role": "developer", "content": "Be kind."},
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
        },
        {"role": "assistant", "content": [{"type": "output_text", "text": "c"}]},
        {"role": "user", "content": "d"},
    ]
    await ask(http, input=items)
    said = [(each.role, each.content) for each in platform.inference.asked[0].messages]
    assert said == [("system", "Be kind."), ("user", "ab"), ("assistant", "c"), ("user", "d")]


@pytest.mark.parametrize(
    ("form", "json_object", "schema"),
    [
        (None, False, ""),
        ({"type": "text"}, False, ""),
        ({"type": "json_object"}, True, ""),
        ({"type": "json_schema", "name": "place", "strict": True, "schema": SCHEMA}, False, json.dumps(SCHEMA)),
    ],
    ids=["none", "text", "object", "schema"],
)
async def test_the_form_of_the_text(http, platform, form: dict | None, json_object: bool, schema: str) -> None:
    answer = (await ask(http, text={"format": form} if form else None)).json()
    asked = platform.inference.asked[0].response_format
    assert (asked.HasField("json_object"), asked.json_schema) == (json_object, schema)
    assert answer["text"]["format"] == (form or {"type": "text"})


async def test_a_stream_tells_every_step(http) -> None:
    told = await events(http)
    assert [event["type"].removeprefix("response.") for event in told] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in told] == list(range(10))
    assert "".join(event["delta"] for event in told if "delta" in event) == told[6]["text"] == "echo hello"
    assert (told[0]["response"]["status"], told[0]["response"]["output"]) == ("in_progress", [])
    assert (told[2]["item"]["status"], told[2]["item"]["content"]) == ("in_progress", [])
    assert told[8]["item"] == told[9]["response"]["output"][0]
    assert told[9]["response"]["usage"]["output_tokens"] == 2
    assert len({event["item_id"] for event in told if "item_id" in event} | {told[2]["item"]["id"]}) == 1


async def test_a_stream_ends_as_the_whole_response_is(http) -> None:
    streamed = (await events(http))[-1]["response"]
    whole = (await ask(http)).json()
    for response in (streamed, whole):
        del response["id"], response["created_at"], response["output"][0]["id"]
    assert streamed == whole


async def test_an_answer_that_was_cut_is_incomplete(http, platform) -> None:
    def cut(request, context):
        yield StreamChatResponse(delta="on and")
        yield StreamChatResponse(finish_reason=FINISH_REASON_LENGTH, usage=ChatUsage(prompt_tokens=3, completion_tokens=2))

    platform.inference.script = cut
    answer = (await ask(http)).json()
    assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert answer["output"][0]["status"] == "incomplete"
    assert (await events(http))[-1]["type"] == "response.incomplete"


async def test_an_answer_may_be_empty(http, platform) -> None:
    platform.inference.script = lambda request, context: iter([StreamChatResponse(finish_reason=FINISH_REASON_STOP)])
    told = await events(http)
    assert [event["type"] for event in told].count("response.created") == 1
    assert told[-1]["response"]["output"][0]["content"][0]["text"] == ""


async def test_a_refusal_keeps_its_status_and_a_failure_behind_the_beginning_is_an_event(http, platform) -> None:
    def broken(request, context):
        if request.messages[-1].content == "more":
            yield StreamChatResponse(delta="a")
        refuse(context, "UNAVAILABLE", "INFERENCE_UNAVAILABLE", "it is loading", "Wait.", error_class="transient")

    platform.inference.script = broken
    assert (await ask(http, stream=True)).status_code == 503
    *_, last = await events(http, input="more")
    assert last["error"]["code"] == "inference_unavailable"


async def test_a_tuned_model_is_told_as_it_was_asked_for(http, platform) -> None:
    name = f"ft:tiny:tunesmith::{TASK.removeprefix('tasks/').replace('-', '')}"
    assert (await ask(http, model=name)).json()["model"] == name
    assert platform.inference.asked[0].model == TASK


@pytest.mark.parametrize(
    ("body", "param"),
    [
        *[({name: "x"}, name) for name in sorted(response_request.REFUSED)],
        ({"truncation": "auto"}, "truncation"),
        ({"store": "yes"}, "store"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": 7}, "input"),
        ({"input": ["a"]}, "input[0]"),
        ({"input": [{"type": "function_call_output", "output": "1"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 7}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": 7}], "instructions": "Be brief."}, "input[0].content"),
        ({"instructions": 7}, "instructions"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"text": "json"}, "text"),
        ({"text": {"format": "json"}}, "text.format"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"model": ""}, "model"),
    ],
)
async def test_what_cannot_be_answered_is_refused_by_name(http, platform, body: dict, param: str) -> None:
    answer = await ask(http, **body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert platform.inference.asked == []


async def test_what_changes_nothing_is_told_in_a_header(http) -> None:
    answer = await ask(http, user="u", service_tier="auto", reasoning={"effort": "low"})
    assert answer.status_code == 200
    assert answer.headers["x-tunesmith-ignored"] == "reasoning, service_tier, user"
