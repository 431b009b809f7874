"""Completions: texts continued as they stand; every parameter is passed or refused by name."""

import json
import threading

import pytest

from services.gateway import identifiers
from tests.fake_platform import refuse
from tunesmith.v1.inference_service_pb2 import FINISH_REASON_STOP, ChatUsage, StreamCompleteResponse, TokenLogprob

PATH = "/v1/completions"


def ask(http, **body):
    return http.post(PATH, json={"model": "tiny", "prompt": "Once", **body})


async def pieces(http, **body) -> list:
    answer = await ask(http, stream=True, **body)
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
    data = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    return [json.loads(each) if each != "[DONE]" else each for each in data]


async def test_a_text_is_continued(http, platform) -> None:
    answer = (await ask(http)).json()
    assert answer.pop("id").startswith("cmpl-")
    assert answer.pop("created") > 0
    assert answer == {
        "object": "text_completion",
        "model": "tiny",
        "system_fingerprint": None,
        "choices": [{"index": 0, "text": " word0", "logprobs": None, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }
    (asked,) = platform.inference.asked
    assert (asked.text, asked.max_tokens, asked.echo, asked.logprobs) == ("Once", 16, False, False)


async def test_every_parameter_arrives(http, platform) -> None:
    numbers = {"temperature": 0.5, "top_p": 0.5, "frequency_penalty": 1.0, "presence_penalty": 1.0, "top_k": 3, "min_p": 0.5}
    await ask(http, **numbers, max_tokens=0, echo=True, logprobs=2, n=2, best_of=2, seed=7, stop=["x"], logit_bias={"1": 1})
    (asked,) = platform.inference.asked
    assert {name: getattr(asked, name) for name in numbers} == numbers
    assert (asked.max_tokens, asked.echo, asked.logprobs, asked.top_logprobs, asked.n) == (0, True, True, 2, 2)
    assert (asked.seed, list(asked.stop), dict(asked.logit_bias)) == (7, ["x"], {1: 1.0})


@pytest.mark.parametrize("prompt", [[1, 2], [[1, 2]]], ids=str)
async def test_a_prompt_may_be_token_ids(http, platform, prompt: list) -> None:
    await ask(http, prompt=prompt)
    (asked,) = platform.inference.asked
    assert list(asked.token_ids.ids) == [1, 2]


async def test_several_prompts_have_their_texts_in_order(http, platform) -> None:
    prompts = [f"p{number}" for number in range(20)]
    answer = (await ask(http, prompt=prompts, n=2, echo=True)).json()
    expected = [f"{prompt} word{index}" for prompt in prompts for index in range(2)]
    assert [choice["text"] for choice in answer["choices"]] == expected
    assert [choice["index"] for choice in answer["choices"]] == list(range(40))
    assert answer["usage"] == {"prompt_tokens": 60, "completion_tokens": 40, "total_tokens": 100}


async def test_several_prompts_are_streamed_with_their_places(http) -> None:
    *events, usage, done = await pieces(http, prompt=["a", "b"], n=2, stream_options={"include_usage": True})
    texts = dict.fromkeys(range(4), "")
    for event in events:
        assert event["usage"] is None
        texts[event["choices"][0]["index"]] += event["choices"][0]["text"]
    assert texts == {0: " word0", 1: " word1", 2: " word0", 3: " word1"}
    assert (usage["choices"], usage["usage"]["total_tokens"], done) == ([], 10, "[DONE]")


def with_logprobs(request, context):
    """`é` comes in two tokens of one byte each; before the first token nothing stands."""
    first = TokenLogprob(token="A", bytes=b"A")
    half, rest = (
        TokenLogprob(token="\ufffd", bytes=b"\xc3", logprob=-1.0),
        TokenLogprob(token="\ufffd", bytes=b"\xa9", logprob=-2.0),
    )
    half.top.add(token="B", logprob=-0.5)
    half.top.add(token="C", logprob=float("-inf"))
    last = TokenLogprob(token=" b", bytes=b" b", logprob=-3.0)
    yield StreamCompleteResponse(text="A", logprobs=[first])
    yield StreamCompleteResponse(text="é b", logprobs=[half, rest, last])
    yield StreamCompleteResponse(finish_reason=FINISH_REASON_STOP, usage=ChatUsage())


async def test_log_probabilities_are_lists_side_by_side(http, platform) -> None:
    platform.inference.script = with_logprobs
    (choice,) = (await ask(http, logprobs=1, echo=True)).json()["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("Aé b", "stop")
    assert choice["logprobs"] == {
        "tokens": ["A", "\ufffd", "\ufffd", " b"],
        "token_logprobs": [None, -1.0, -2.0, -3.0],
        "top_logprobs": [None, {"B": -0.5, "C": -9999.0}, {}, {}],
        "text_offset": [0, 1, 1, 2],
    }


async def test_offsets_go_on_from_piece_to_piece(http, platform) -> None:
    platform.inference.script = with_logprobs
    events = (await pieces(http, logprobs=0))[:-1]
    assert [event["choices"][0]["logprobs"]["text_offset"] for event in events] == [[0], [1, 1, 2], []]


async def test_a_tuned_model_is_asked_by_the_name_inference_has_for_it(http, platform) -> None:
    task = platform.tasks.add()
    await ask(http, model=identifiers.tuned_model_id("tiny", "o", "", task.name), prompt=["a", "b"])
    assert {asked.model for asked in platform.inference.asked} == {task.name}


async def test_what_changes_nothing_is_named(http) -> None:
    assert (await ask(http, user="u", suffix=None)).headers["x-tunesmith-ignored"] == "user"


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ({"model": None}, "model"),
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt[1]"),
        ({"prompt": ["a", []]}, "prompt[1]"),
        ({"prompt": [True]}, "prompt[0]"),
        ({"prompt": [2**40]}, "prompt"),
        ({"prompt": ["a"] * 129}, "prompt"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"echo": "yes"}, "echo"),
        ({"logprobs": True}, "logprobs"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"n": "2"}, "n"),
        ({"stop": 1}, "stop"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_cannot_be_answered_is_refused_by_name(http, platform, body: dict, parameter: str) -> None:
    answer = await ask(http, **body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, parameter), answer.text
    assert platform.inference.asked == []


@pytest.mark.parametrize("stream", [True, False])
async def test_a_refusal_of_one_prompt_is_the_answer(http, platform, stream: bool) -> None:
    """The others are given up: their calls are cancelled."""
    started, ended = threading.Event(), threading.Event()

    def one_refuses(request, context):
        if request.completion.text == "bad":
            assert stream or started.wait(10)
            refuse(context, "INVALID_ARGUMENT", "CONTEXT_LENGTH_EXCEEDED", "too long", "Shorten it.")
        context.add_callback(ended.set)
        started.set()
        while context.is_active():
            yield StreamCompleteResponse(text="x")

    platform.inference.script = one_refuses
    answer = await ask(http, prompt=["bad", "endless"], stream=stream)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert stream or ended.wait(10)
