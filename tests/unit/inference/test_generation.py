"""One answer: what is asked of the engine, what becomes of its tokens, and why it ends."""

import asyncio
import dataclasses
import datetime
import itertools
import threading
from collections.abc import Iterable, Sequence

import pytest
from inference_fakes import FakeEngine
from tiny_model import END, tiny_tokenizer

from services.common.errors import InvalidArgument, ServiceError
from services.common.rendering import Renderer, RenderError
from services.inference.engine import Sampling, Written
from services.inference.generation import Answer, Delta, Ending, FinishReason, Piece, Watch
from services.inference.question import Given, Message, Question
from services.inference.ready_model import ReadyModel
from services.inference.registry import Registry
from services.inference.request import prompt_ids, request_for
from services.inference.resolver import ModelFiles

QUESTION = Question("tiny", (Message("user", "Say something"),))
TOKENIZER = tiny_tokenizer()
END_ID = TOKENIZER.token_to_id(END)


def new_seed() -> int:
    return 77


def ids(text: str) -> list[int]:
    return list(TOKENIZER.encode(text, add_special_tokens=False).ids)


@pytest.fixture
def ready(base_files: ModelFiles) -> ReadyModel:
    registry = Registry(FakeEngine(), max_bytes=10**9, now=lambda: datetime.datetime(2026, 1, 1))
    return registry.hold(object(), base_files)


def pieces_of(answer: Answer) -> list[Piece]:
    async def collected() -> list[Piece]:
        return [piece async for piece in answer.pieces()]

    return asyncio.run(asyncio.wait_for(collected(), 10))


def answered(tokens: Iterable[int], ready: ReadyModel, question: Question = QUESTION) -> tuple[str, Ending]:
    """What comes of the tokens; they are given one by one until the answer has enough."""
    ticks = itertools.count(1)
    watch = Watch(threading.Event(), 0.0, lambda: float(next(ticks)))
    answer = Answer(ready, request_for(ready, question, new_seed), question, watch)
    assert any(answer.take(Written(token)) for token in itertools.chain(tokens, itertools.repeat(END_ID)))
    *deltas, ending = pieces_of(answer)
    assert isinstance(ending, Ending)
    assert all(isinstance(delta, Delta) and delta.text for delta in deltas)
    return "".join(delta.text for delta in deltas if isinstance(delta, Delta)), ending


def test_the_answer_ends_with_the_models_turn(ready: ReadyModel) -> None:
    text, ending = answered([*ids("Hello"), END_ID, *ids("never")], ready)
    assert text == "Hello"
    assert (ending.finish_reason, ending.completion_tokens) == (FinishReason.STOP, len(ids("Hello")))


def test_the_prompt_is_the_renderers_and_is_counted(ready: ReadyModel) -> None:
    _, ending = answered(ids("ok"), ready)
    expected = ready.renderer.prompt([{"role": "user", "content": "Say something"}])
    assert list(request_for(ready, QUESTION, new_seed).prompt) == expected
    assert ending.prompt_tokens == len(expected)


def test_max_tokens_ends_the_answer_by_length(ready: ReadyModel) -> None:
    question = dataclasses.replace(QUESTION, max_tokens=3)
    text, ending = answered(ids("Hello"), ready, question)
    assert (text, ending.finish_reason, ending.completion_tokens) == ("Hel", FinishReason.LENGTH, 3)
    assert request_for(ready, question, new_seed).max_tokens == 3


def test_max_tokens_is_capped_by_the_context_length(ready: ReadyModel) -> None:
    request = request_for(ready, dataclasses.replace(QUESTION, max_tokens=100_000), new_seed)
    assert request.max_tokens == ready.context_length - len(request.prompt)


def test_a_prompt_that_leaves_no_room_is_refused_with_both_lengths(ready: ReadyModel) -> None:
    prompt = ready.renderer.prompt([{"role": "user", "content": "Say something"}])
    for length in (len(prompt), len(prompt) - 1):
        with pytest.raises(ServiceError) as refused:
            request_for(dataclasses.replace(ready, context_length=length), QUESTION, new_seed)
        assert refused.value.reason == "CONTEXT_LENGTH_EXCEEDED"
        assert refused.value.metadata == {"prompt_tokens": str(len(prompt)), "context_length": str(length)}


def test_a_prompt_that_leaves_room_for_one_token_gets_it(ready: ReadyModel) -> None:
    prompt = ready.renderer.prompt([{"role": "user", "content": "Say something"}])
    text, ending = answered(ids("xyz"), dataclasses.replace(ready, context_length=len(prompt) + 1))
    assert (text, ending.finish_reason) == ("x", FinishReason.LENGTH)


def test_a_stop_text_ends_the_answer_and_is_not_part_of_it(ready: ReadyModel) -> None:
    text, ending = answered(ids("one two three"), ready, dataclasses.replace(QUESTION, stop=(" two",)))
    assert (text, ending.finish_reason) == ("one", FinishReason.STOP)


def test_a_stop_text_completed_by_the_last_token_still_counts_as_stop(ready: ReadyModel) -> None:
    question = dataclasses.replace(QUESTION, stop=("b",), max_tokens=2)
    assert answered(ids("ab"), ready, question)[1].finish_reason is FinishReason.STOP


def test_an_empty_answer_has_only_an_ending_with_its_times(ready: ReadyModel) -> None:
    text, ending = answered([], ready)
    assert (text, ending.completion_tokens, ending.finish_reason) == ("", 0, FinishReason.STOP)
    assert 0 < ending.seconds_to_first_token <= ending.total_seconds


def test_times_are_those_of_the_first_token_and_of_the_end(ready: ReadyModel) -> None:
    _, ending = answered(ids("abc"), ready)
    assert (ending.seconds_to_first_token, ending.total_seconds) == (1.0, 2.0)


def test_the_sampling_and_the_model_reach_the_engine(ready: ReadyModel) -> None:
    question = dataclasses.replace(QUESTION, temperature=0.7, top_p=0.9, seed=11, top_k=5, logit_bias=((3, 1.5),))
    request = request_for(dataclasses.replace(ready, adapter="artifacts/x"), question, new_seed)
    assert (request.base, request.adapter) == (ready.base, "artifacts/x")
    assert request.sampling == Sampling(0.7, 0.9, 11, top_k=5, logit_bias=((3, 1.5),))


def test_a_question_without_a_seed_gets_a_new_one_and_seed_0_is_a_seed(ready: ReadyModel) -> None:
    seeds = [request_for(ready, dataclasses.replace(QUESTION, seed=seed), new_seed).sampling.seed for seed in (None, 0)]
    assert seeds == [new_seed(), 0]


@pytest.mark.parametrize("token", [-1, 267])
def test_a_bias_for_a_token_that_does_not_exist_is_refused(ready: ReadyModel, token: int) -> None:
    request_for(ready, dataclasses.replace(QUESTION, logit_bias=((0, 1.0), (266, 1.0))), new_seed)
    with pytest.raises(InvalidArgument) as refused:
        request_for(ready, dataclasses.replace(QUESTION, logit_bias=((token, 1.0),)), new_seed)
    assert [violation.field for violation in refused.value.violations] == [f"logit_bias[{token}]"]


def test_an_answer_is_gone_once_nobody_waits_and_then_ends_without_an_ending(ready: ReadyModel) -> None:
    watch = Watch(threading.Event(), 0.0)
    answer = Answer(ready, request_for(ready, QUESTION, new_seed), QUESTION, watch)
    answer.take(Written(ids("a")[0]))
    assert not answer.gone
    watch.cancelled.set()
    assert answer.gone
    answer.end(None)
    assert pieces_of(answer) == [Delta("a")]


def test_a_failure_comes_after_the_text_before_it(ready: ReadyModel) -> None:
    answer = Answer(ready, request_for(ready, QUESTION, new_seed), QUESTION, Watch(threading.Event(), 0.0))
    answer.take(Written(ids("a")[0]))
    answer.end(ServiceError("GENERATION_FAILED", "broken"))
    received: list[Piece] = []

    async def read() -> None:
        async for piece in answer.pieces():
            received.append(piece)

    with pytest.raises(ServiceError, match="broken"):
        asyncio.run(read())
    assert received == [Delta("a")]


class Stripping:
    """A renderer whose tokenizer leaves out the space that begins a text."""

    def __init__(self, renderer: Renderer) -> None:
        self.prompt = renderer.prompt
        self.text_prompt = renderer.text_prompt
        self._renderer = renderer

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        return self._renderer.decode(ids, skip_special_tokens=skip_special_tokens).removeprefix(" ")


def test_a_continued_text_keeps_the_space_that_an_answer_does_not_begin_with(ready: ReadyModel) -> None:
    stripping = dataclasses.replace(ready, renderer=Stripping(ready.renderer))  # type: ignore[arg-type]
    continued = Question("tiny", (), given=Given("once upon"))
    assert [answered(ids(" a time"), stripping, each)[0] for each in (continued, QUESTION)] == [" a time", "a time"]


class Refusing:
    """A renderer whose template does not take the conversation."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def prompt(self, messages: object, tools: object) -> list[int]:
        raise RenderError("roles must alternate", reason=self._reason)


def test_a_conversation_the_template_refuses_is_the_callers_error(ready: ReadyModel) -> None:
    with pytest.raises(InvalidArgument) as refused:
        prompt_ids(dataclasses.replace(ready, renderer=Refusing("DATASET_UNUSABLE")), QUESTION)  # type: ignore[arg-type]
    assert [violation.field for violation in refused.value.violations] == ["messages"]
    assert "alternate" in refused.value.message


def test_a_template_that_fails_is_the_base_models_fault(ready: ReadyModel) -> None:
    with pytest.raises(RenderError) as failed:
        prompt_ids(dataclasses.replace(ready, renderer=Refusing("BASE_MODEL_UNUSABLE")), QUESTION)  # type: ignore[arg-type]
    assert failed.value.reason == "BASE_MODEL_UNUSABLE"
