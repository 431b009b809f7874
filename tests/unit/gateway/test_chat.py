"""Chat: every parameter is passed, refused by name or named as ignored; answers whole and as a stream."""

import json

import pytest

from services.gateway import identifiers
from tests.fake_platform import refuse
from tunesmith.v1.inference_service_pb2 import FINISH_REASON_LENGTH, ChatUsage, StreamChatRequest, StreamChatResponse

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
TASK = "tasks/0c3f9b52-7d0f-4a3c-9d0c-2f1f0a4b7f11"


def ask(http, **body):
    return http.post(CHAT, json={"model": "tiny", "messages": HELLO, **body})


async def chunks(http, **body) -> list:
    answer = await ask(http, stream=True, **body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    data = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    return [json.loads(each) if each != "[DONE]" else each for each in data]


async def test_a_whole_answer(http, platform) -> None:
    answer = (await ask(http)).json()
    assert answer.pop("id").startswith("chatcmpl-")
    assert answer.pop("created") > 0
    message = {"role": "assistant", "content": "echo hello", "refusal": None}
    assert answer == {
        "object": "chat.completion",
        "model": "tiny",
        "system_fingerprint": None,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 2, "total_tokens": 2},
    }


async def test_a_streamed_answer_says_who_speaks_then_what_then_why_it_ended(http) -> None:
    *events, done = await chunks(http)
    assert done == "[DONE]"
    assert [event["choices"][0]["delta"] for event in events] == [
        {"role": "assistant", "content": ""},
        {"content": "echo "},
        {"content": "hello"},
        {},
    ]
    assert [event["choices"][0]["finish_reason"] for event in events] == [None, None, None, "stop"]
    assert len({event["id"] for event in events}) == 1
    assert not any("usage" in event for event in events)


async def test_the_usage_comes_last_when_it_was_asked_for(http) -> None:
    *events, usage, _ = await chunks(http, stream_options={"include_usage": True})
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 2)
    assert {event["usage"] for event in events} == {None}


async def test_every_parameter_inference_knows_arrives(http, platform) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d", "name": "ann"},
    ]
    await ask(http, messages=messages, temperature=1, top_p=0.5, max_completion_tokens=7, max_tokens=9, seed=-1, stop=["x", "y"])
    asked = platform.inference.asked[0]
    said = [(message.role, message.content) for message in asked.messages]
    assert said == [("system", "Be brief."), ("user", "ab"), ("assistant", "c"), ("user", "d")]
    assert (asked.temperature, asked.top_p, asked.max_tokens, list(asked.stop)) == (1.0, 0.5, 7, ["x", "y"])
    assert asked.seed == 2**63 - 1


async def test_what_is_not_said_is_left_to_inference(http, platform) -> None:
    await ask(http, stop="x", temperature=None)
    (asked,) = platform.inference.asked
    unset = [asked.HasField(name) for name in ("temperature", "top_p", "max_tokens", "seed")]
    assert (unset, list(asked.stop)) == ([False] * 4, ["x"])


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        ("tiny", "tiny"),
        ("models/support@prod", "models/support@prod"),
        (identifiers.long_tuned_model_id("tiny", "org", "x", TASK), TASK),
        (identifiers.checkpoint_model_id(identifiers.long_tuned_model_id("tiny", "org", "x", TASK), 20), f"{TASK}@step-20"),
    ],
)
async def test_a_model_is_asked_by_the_name_inference_has_for_it(http, platform, model: str, asked: str) -> None:
    answer = (await ask(http, model=model)).json()
    assert (platform.inference.asked[0].model, answer["model"]) == (asked, model)


async def test_a_short_name_is_looked_up(http, platform) -> None:
    task = platform.tasks.add()
    tuned = identifiers.tuned_model_id("tiny", "org", "x", task.name)
    for model, asked in ((tuned, task.name), (identifiers.checkpoint_model_id(tuned, 20), f"{task.name}@step-20")):
        assert (await ask(http, model=model)).json()["model"] == model
        assert platform.inference.asked[-1].model == asked
    answer = await ask(http, model=identifiers.tuned_model_id("tiny", "org", "x", TASK))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


async def test_parameters_that_change_nothing_are_named_in_a_header(http) -> None:
    answer = await ask(http, user="u", store=True, metadata={}, parallel_tool_calls=False, tools=[], n=1, logprobs=False)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-tunesmith-ignored"] == "metadata, parallel_tool_calls, store, user"


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ({"model": ""}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [*HELLO, {"role": "user", "content": [{"type": "image_url"}]}]}, "messages[1].content[0].type"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]}, "messages[0].tool_calls"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"functions": [{}]}, "functions"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logit_bias": {"x": 5}}, "logit_bias"),
        ({"logit_bias": {"1": "x"}}, "logit_bias.1"),
        ({"presence_penalty": "x"}, "presence_penalty"),
        ({"top_k": 2.5}, "top_k"),
        ({"n": 2}, "n"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 2**40}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"seed": "x"}, "seed"),
        ({"stop": [1]}, "stop"),
        ({"stop": {"a": 1}}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, "stream_options"),
    ],
    ids=str,
)
async def test_what_cannot_be_answered_is_refused_by_name(http, platform, body: dict, parameter: str) -> None:
    answer = await ask(http, **body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, parameter), answer.text
    assert platform.inference.asked == []


@pytest.mark.parametrize("name", ["frequency_penalty", "presence_penalty", "top_k", "min_p", "repetition_penalty", "logit_bias"])
async def test_what_inference_has_a_field_for_arrives_and_the_rest_is_refused(http, platform, name: str) -> None:
    value: object = {"7": 2.0} if name == "logit_bias" else 1
    answer = await ask(http, **{name: value})
    if name in StreamChatRequest.DESCRIPTOR.fields_by_name:
        (asked,) = platform.inference.asked
        assert getattr(asked, name) == ({7: 2.0} if name == "logit_bias" else 1)
    else:
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)
        assert answer.json()["error"]["code"] == "unsupported_parameter"
    assert (await ask(http, **{name: None})).status_code == 200


async def test_a_cut_answer_says_so(http, platform) -> None:
    ending = StreamChatResponse(
        delta="x", finish_reason=FINISH_REASON_LENGTH, usage=ChatUsage(prompt_tokens=3, completion_tokens=1)
    )
    platform.inference.script = lambda request, context: iter([ending])
    answer = (await ask(http)).json()
    assert (answer["choices"][0]["message"]["content"], answer["choices"][0]["finish_reason"]) == ("x", "length")
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}


@pytest.mark.parametrize("stream", [True, False])
async def test_a_refusal_of_inference_keeps_its_status(http, platform, stream: bool) -> None:
    def refused(request, context):
        refuse(context, "NOT_FOUND", "MODEL_NOT_FOUND", "there is no such model", "List them.")
        yield

    platform.inference.script = refused
    answer = await ask(http, stream=stream)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")


async def test_a_failure_in_the_middle_is_an_event_without_done(http, platform) -> None:
    def broken(request, context):
        yield StreamChatResponse(delta="half")
        refuse(context, "INTERNAL", "GENERATION_FAILED", "it broke", "Report it.", error_class="platform")

    platform.inference.script = broken
    *events, last = await chunks(http)
    assert events[1]["choices"][0]["delta"] == {"content": "half"}
    assert (last["error"]["type"], last["error"]["code"]) == ("server_error", "generation_failed")


async def test_raw_text_is_not_continued(http) -> None:
    answer = await http.post("/v1/completions", json={"model": "tiny", "prompt": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "feature_not_supported")
