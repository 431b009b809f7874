"""Chat: every parameter is passed, refused by name or named as ignored; answers whole and as a stream."""

import json

import pytest

from services.gateway import identifiers
from tests.fake_platform import refuse
from tunesmith.v1.inference_service_pb2 import (
    FINISH_REASON_LENGTH,
    FINISH_REASON_STOP,
    FINISH_REASON_TOOL_CALLS,
    ChatUsage,
    StreamChatResponse,
    TokenLogprob,
    ToolCall,
    ToolChoice,
)

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
TASK = "tasks/0c3f9b52-7d0f-4a3c-9d0c-2f1f0a4b7f11"

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "Tells it.", "parameters": WEATHER, "strict": True},
}


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
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]}, "messages[0].tool_calls[0].function"),
        ({"messages": [{"role": "assistant", "tool_calls": ["x"]}]}, "messages[0].tool_calls[0]"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"x": 1}}]}]},
            "messages[0].tool_calls[0].function.name",
        ),
        ({"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}, "messages[0].function_call"),
        ({"messages": [{"role": "tool", "content": "1", "tool_call_id": 1}]}, "messages[0].tool_call_id"),
        ({"tools": ["x"]}, "tools[0]"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, "tools[0].function.parameters"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "some"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"functions": [{}]}, "functions"),
        ({"logprobs": 2}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": "3"}, "top_logprobs"),
        ({"logit_bias": {"x": 5}}, "logit_bias"),
        ({"logit_bias": {"1": "x"}}, "logit_bias.1"),
        ({"presence_penalty": "x"}, "presence_penalty"),
        ({"top_k": 2.5}, "top_k"),
        ({"n": 1.5}, "n"),
        ({"n": 2**40}, "n"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format.json_schema.schema"),
        ({"response_format": "json"}, "response_format"),
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


@pytest.mark.parametrize(
    "name", ["frequency_penalty", "presence_penalty", "top_k", "min_p", "repetition_penalty", "logit_bias", "n"]
)
async def test_numbers_of_sampling_arrive(http, platform, name: str) -> None:
    value: object = {"7": 2.0} if name == "logit_bias" else 1
    assert (await ask(http, **{name: value})).status_code == 200
    (asked,) = platform.inference.asked
    assert getattr(asked, name) == ({7: 2.0} if name == "logit_bias" else 1)
    assert (await ask(http, **{name: None})).status_code == 200


async def test_tools_and_what_came_of_them_arrive(http, platform) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
    said = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "name": "weather", "content": "rain"},
    ]
    answer = await ask(http, messages=said, tools=[TOOL], tool_choice="required", parallel_tool_calls=True)
    assert answer.headers["x-tunesmith-ignored"] == "parallel_tool_calls"
    (asked,) = platform.inference.asked
    assert [(tool.name, tool.description, tool.strict) for tool in asked.tools] == [("weather", "Tells it.", True)]
    assert json.loads(asked.tools[0].parameters) == TOOL["function"]["parameters"]
    assert asked.tool_choice.mode == ToolChoice.MODE_REQUIRED
    (given,) = asked.messages[1].tool_calls
    assert (given.id, given.name, given.arguments) == ("call_1", "weather", '{"city": "Bern"}')
    assert (asked.messages[2].role, asked.messages[2].tool_call_id, asked.messages[2].name) == ("tool", "call_1", "weather")


@pytest.mark.parametrize(
    ("choice", "mode", "function"),
    [
        (None, 0, ""),
        ("auto", ToolChoice.MODE_AUTO, ""),
        ("none", ToolChoice.MODE_NONE, ""),
        ({"type": "function", "function": {"name": "weather"}}, 0, "weather"),
    ],
)
async def test_how_tools_are_chosen_arrives(http, platform, choice, mode: int, function: str) -> None:
    await ask(http, tools=[TOOL], tool_choice=choice)
    (asked,) = platform.inference.asked
    assert (asked.tool_choice.mode, asked.tool_choice.function) == (mode, function)


async def test_a_choice_among_no_tools_is_none(http, platform) -> None:
    for choice in ("auto", "none"):
        assert (await ask(http, tool_choice=choice)).status_code == 200
    assert not any(asked.HasField("tool_choice") for asked in platform.inference.asked)


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, "json_object"),
        ({"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": {"type": "object"}}}, "json_schema"),
    ],
)
async def test_the_form_of_an_answer_arrives(http, platform, form: dict, kind: str | None) -> None:
    await ask(http, response_format=form)
    (asked,) = platform.inference.asked
    assert asked.response_format.WhichOneof("format") == kind
    if kind == "json_schema":
        assert json.loads(asked.response_format.json_schema) == {"type": "object"}


def two_answers(request, context):
    yield StreamChatResponse(index=1, delta="b1")
    yield StreamChatResponse(index=0, delta="a")
    yield StreamChatResponse(index=1, delta="b2", finish_reason=FINISH_REASON_LENGTH)
    yield StreamChatResponse(index=0, finish_reason=FINISH_REASON_STOP, usage=ChatUsage(prompt_tokens=3, completion_tokens=4))


async def test_several_answers_are_choices_in_order(http, platform) -> None:
    platform.inference.script = two_answers
    answer = (await ask(http, n=2)).json()
    told = [(each["index"], each["message"]["content"], each["finish_reason"]) for each in answer["choices"]]
    assert told == [(0, "a", "stop"), (1, "b1b2", "length")]
    assert answer["usage"]["total_tokens"] == 7


async def test_several_answers_are_streamed_side_by_side(http, platform) -> None:
    platform.inference.script = two_answers
    *events, usage, _ = await chunks(http, n=2, stream_options={"include_usage": True})
    told = [(each["choices"][0]["index"], each["choices"][0]["delta"].get("content")) for each in events]
    assert told == [(1, ""), (1, "b1"), (0, ""), (0, "a"), (1, "b2"), (1, None), (0, None)]
    assert [each["choices"][0]["finish_reason"] for each in events[-2:]] == ["length", "stop"]
    assert usage["usage"]["completion_tokens"] == 4


def with_logprobs(request, context):
    first = TokenLogprob(token="h", token_id=1, bytes=b"h", logprob=-0.5)
    first.top.add(token="H", token_id=2, bytes=b"H", logprob=-1.5)
    yield StreamChatResponse(delta="h", logprobs=[first])
    yield StreamChatResponse(logprobs=[TokenLogprob(token="\ufffd", bytes=b"\xc3", logprob=float("-inf"))])
    yield StreamChatResponse(finish_reason=FINISH_REASON_STOP, usage=ChatUsage())


LOGPROBS = [
    {
        "token": "h",
        "logprob": -0.5,
        "bytes": [104],
        "top_logprobs": [{"token": "H", "logprob": -1.5, "bytes": [72]}],
    },
    {"token": "\ufffd", "logprob": -9999.0, "bytes": [195], "top_logprobs": []},
]


async def test_log_probabilities_are_told_whole_and_streamed(http, platform) -> None:
    platform.inference.script = with_logprobs
    (choice,) = (await ask(http, logprobs=True, top_logprobs=1)).json()["choices"]
    assert choice["logprobs"] == {"content": LOGPROBS, "refusal": None}
    assert (platform.inference.asked[0].logprobs, platform.inference.asked[0].top_logprobs) == (True, 1)
    events = (await chunks(http, logprobs=True, top_logprobs=1))[:-1]
    streamed = [event["choices"][0]["logprobs"] for event in events]
    assert [each["content"] for each in streamed if each] == [LOGPROBS[:1], LOGPROBS[1:]]


def calling(request, context):
    yield StreamChatResponse(delta="Let me see. ")
    for number in (1, 2):
        yield StreamChatResponse(tool_calls=[ToolCall(id=f"call_{number}", name="weather", arguments="{}")])
    yield StreamChatResponse(finish_reason=FINISH_REASON_TOOL_CALLS, usage=ChatUsage())


CALLS = [{"id": f"call_{n}", "type": "function", "function": {"name": "weather", "arguments": "{}"}} for n in (1, 2)]


async def test_calls_of_tools_are_told(http, platform) -> None:
    platform.inference.script = calling
    (choice,) = (await ask(http, tools=[TOOL])).json()["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", "Let me see. ")
    assert choice["message"]["tool_calls"] == CALLS


async def test_calls_of_tools_are_streamed_each_whole(http, platform) -> None:
    platform.inference.script = calling
    events = (await chunks(http, tools=[TOOL]))[:-1]
    deltas = [event["choices"][0]["delta"] for event in events]
    told = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert told == [{"index": index, **call} for index, call in enumerate(CALLS)]
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_an_answer_that_is_only_calls_has_no_content(http, platform) -> None:
    platform.inference.script = lambda request, context: iter(
        [StreamChatResponse(tool_calls=[ToolCall(name="f")], finish_reason=FINISH_REASON_TOOL_CALLS, usage=ChatUsage())]
    )
    (choice,) = (await ask(http, tools=[TOOL])).json()["choices"]
    assert choice["message"]["content"] is None


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
