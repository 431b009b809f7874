"""Texts and judgements through the SDK: what is sent, what comes back; the examples of its docstrings are run."""

import doctest
import math
import threading

import pytest

import tunesmith.inference
from tunesmith import Client
from tunesmith.errors import InvalidArgument
from tunesmith.v1.inference_service_pb2 import ChatMessage, StreamCompleteResponse, Tool

TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b c", "weight": 0}]
TURNS += [{"role": "user", "content": "d"}, {"role": "assistant", "content": "e f g"}]

DEADLINE = 10


@pytest.fixture
def client(platform):
    with Client() as client:
        yield client


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [each for each in finder.find(tunesmith.inference.InferenceVerbs, "InferenceVerbs") if each.examples]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name.rsplit(".", 1)[-1])
def test_the_examples_of_the_docstrings_are_true(client, example):
    example.globs = {"client": client, "math": math}
    assert doctest.DocTestRunner().run(example).failed == 0


def test_every_verb_that_is_new_to_most_has_an_example():
    assert [each.name for each in examples()] == [
        f"InferenceVerbs.{verb}" for verb in ("compare_chat", "complete", "score_chat", "stream_complete")
    ]


def test_a_text_is_continued_with_what_was_given_and_nothing_else(client, platform):
    found = client.complete("tiny", "Once", max_tokens=0, echo=True, temperature=None, stop=["."], logit_bias={5: -1.0})
    (asked,) = platform.inference.asked
    assert (asked.model, asked.text, asked.echo, list(asked.stop), dict(asked.logit_bias)) == (
        *("baseModels/tiny", "Once", True, ["."]),
        {5: -1.0},
    )
    assert (asked.HasField("max_tokens"), asked.HasField("temperature"), asked.HasField("seed")) == (True, False, False)
    assert (found.model, found.choices[0].text, found.usage.prompt_tokens) == ("baseModels/tiny", "Once word0", 3)


def test_token_ids_are_sent_as_they_are(client, platform):
    client.complete("tasks/1", [5, 6, 7])
    (asked,) = platform.inference.asked
    assert (asked.WhichOneof("prompt"), list(asked.token_ids.ids), asked.model) == ("token_ids", [5, 6, 7], "tasks/1")


def test_several_texts_come_in_pieces_with_their_index(client):
    pieces = list(client.stream_complete("tiny", "Once", n=2))
    assert [(piece.index, piece.text) for piece in pieces if piece.text] == [(0, " word0"), (1, " word1")]
    assert pieces[-1].usage.completion_tokens == 2


def test_a_text_that_nobody_wants_any_more_is_given_up(client, platform):
    ended = threading.Event()

    def script(request, context):
        context.add_callback(ended.set)
        yield StreamCompleteResponse(text="a")
        ended.wait(DEADLINE)

    platform.inference.script = script
    pieces = client.stream_complete("tiny", "Once")
    assert next(pieces).text == "a"
    assert not ended.is_set()
    pieces.close()
    assert ended.wait(DEADLINE)


def test_only_turns_with_weight_are_judged(client, platform):
    found = client.score_chat("tiny", TURNS, tools=[{"name": "bell"}, Tool(name="gong")], top_logprobs=2)
    assert ([token.token for token in found.tokens], found.total_logprob) == (["e", "f", "g"], -3.0)
    (asked,) = platform.inference.asked
    assert [turn.HasField("weight") for turn in asked.messages] == [False, True, False, False]
    assert ([tool.name for tool in asked.tools], asked.top_logprobs) == (["bell", "gong"], 2)


def test_a_conversation_may_be_messages_of_the_contract(client):
    turns = [ChatMessage(role="user", content="a"), ChatMessage(role="assistant", content="x y")]
    assert len(client.score_chat("tiny", turns).tokens) == 2


def test_words_of_the_user_alone_cannot_be_judged(client):
    with pytest.raises(InvalidArgument, match="nothing to judge"):
        client.score_chat("tiny", "hello")


def test_a_field_that_does_not_exist_is_an_error_at_once(client, platform):
    with pytest.raises(ValueError, match="no_such_field"):
        client.complete("tiny", "Once", no_such_field=1)
    assert platform.inference.asked == []
