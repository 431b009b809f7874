"""One answer: what is asked of the engine, what becomes of its tokens, and why it ends."""

import dataclasses
import datetime
import itertools
import threading
from collections.abc import Iterator

import pytest
from inference_fakes import FakeEngine
from tiny_model import END, tiny_tokenizer

from services.common.errors import InvalidArgument, ServiceError
from services.common.rendering import RenderError
from services.inference import generation
from services.inference.engine import GenerationRequest, Sampling
from services.inference.generation import Delta, Ending, FinishReason, Piece, Watch
from services.inference.question import Message, Question
from services.inference.registry import ReadyModel, Registry
from services.inference.resolver import ModelFiles

QUESTION = Question("tiny", (Message("user", "Say something"),))
TOKENIZER = tiny_tokenizer()
END_ID = TOKENIZER.token_to_id(END)


def ids(text: str) -> list[int]:
    return list(TOKENIZER.encode(text, add_special_tokens=False).ids)


def saying(*tokens: int) -> FakeEngine:
    def script(request: GenerationRequest) -> Iterator[int]:
        yield from tokens
        yield from itertools.repeat(END_ID)

    return FakeEngine(script)


@pytest.fixture
def ready(base_files: ModelFiles) -> ReadyModel:
    return Registry(FakeEngine(), max_bytes=10**9, now=lambda: datetime.datetime(2026, 1, 1)).use(base_files)


def answer(engine: FakeEngine, ready: ReadyModel, question: Question = QUESTION) -> tuple[str, Ending]:
    engine.bases.setdefault(ready.base, __file__)  # type: ignore[arg-type]
    ticks = itertools.count(1)
    watch = Watch(threading.Event(), 0.0, lambda: float(next(ticks)))
    *deltas, ending = list(generation.answer(engine, ready, question, Sampling(), watch))
    assert isinstance(ending, Ending)
    assert all(isinstance(delta, Delta) and delta.text for delta in deltas)
    return "".join(delta.text for delta in deltas if isinstance(delta, Delta)), ending


def test_the_answer_ends_with_the_models_turn(ready: ReadyModel) -> None:
    text, ending = answer(saying(*ids("Hello"), END_ID, *ids("never")), ready)
    assert text == "Hello"
    assert (ending.finish_reason, ending.completion_tokens) == (FinishReason.STOP, len(ids("Hello")))


def test_the_prompt_is_the_renderers_and_is_counted(ready: ReadyModel) -> None:
    engine = saying(*ids("ok"))
    _, ending = answer(engine, ready)
    expected = ready.renderer.prompt([{"role": "user", "content": "Say something"}])
    assert list(engine.requests[0].prompt) == expected
    assert ending.prompt_tokens == len(expected)


def test_max_tokens_ends_the_answer_by_length(ready: ReadyModel) -> None:
    engine = saying(*ids("Hello"))
    text, ending = answer(engine, ready, dataclasses.replace(QUESTION, max_tokens=3))
    assert (text, ending.finish_reason, ending.completion_tokens) == ("Hel", FinishReason.LENGTH, 3)
    assert engine.requests[0].max_tokens == 3


def test_max_tokens_is_capped_by_the_context_length(ready: ReadyModel) -> None:
    engine = saying()
    answer(engine, ready, dataclasses.replace(QUESTION, max_tokens=100_000))
    assert engine.requests[0].max_tokens == ready.context_length - len(engine.requests[0].prompt)


def test_a_prompt_that_leaves_no_room_is_refused_with_both_lengths(ready: ReadyModel) -> None:
    prompt = ready.renderer.prompt([{"role": "user", "content": "Say something"}])
    for length in (len(prompt), len(prompt) - 1):
        with pytest.raises(ServiceError) as refused:
            answer(saying(), dataclasses.replace(ready, context_length=length))
        assert refused.value.reason == "CONTEXT_LENGTH_EXCEEDED"
        assert refused.value.metadata == {"prompt_tokens": str(len(prompt)), "context_length": str(length)}


def test_a_prompt_that_leaves_room_for_one_token_gets_it(ready: ReadyModel) -> None:
    prompt = ready.renderer.prompt([{"role": "user", "content": "Say something"}])
    text, ending = answer(saying(*ids("xyz")), dataclasses.replace(ready, context_length=len(prompt) + 1))
    assert (text, ending.finish_reason) == ("x", FinishReason.LENGTH)


def test_a_stop_text_ends_the_answer_and_is_not_part_of_it(ready: ReadyModel) -> None:
    text, ending = answer(saying(*ids("one two three")), ready, dataclasses.replace(QUESTION, stop=(" two",)))
    assert (text, ending.finish_reason) == ("one", FinishReason.STOP)


def test_a_stop_text_completed_by_the_last_token_still_counts_as_stop(ready: ReadyModel) -> None:
    question = dataclasses.replace(QUESTION, stop=("b",), max_tokens=2)
    assert answer(saying(*ids("ab")), ready, question)[1].finish_reason is FinishReason.STOP


def test_an_empty_answer_has_only_an_ending_with_its_times(ready: ReadyModel) -> None:
    text, ending = answer(saying(), ready)
    assert (text, ending.completion_tokens, ending.finish_reason) == ("", 0, FinishReason.STOP)
    assert 0 < ending.seconds_to_first_token <= ending.total_seconds


def test_times_are_those_of_the_first_token_and_of_the_end(ready: ReadyModel) -> None:
    _, ending = answer(saying(*ids("abc")), ready)
    assert (ending.seconds_to_first_token, ending.total_seconds) == (1.0, 2.0)


def test_the_sampling_and_the_model_reach_the_engine(ready: ReadyModel) -> None:
    engine = saying()
    engine.bases[ready.base] = __file__  # type: ignore[assignment]
    engine.adapters["artifacts/x"] = ready.base
    sampling = Sampling(0.7, 0.9, 11)
    tuned = dataclasses.replace(ready, adapter="artifacts/x")
    list(generation.answer(engine, tuned, QUESTION, sampling, Watch(threading.Event(), 0.0)))
    request = engine.requests[0]
    assert (request.base, request.adapter, request.sampling) == (ready.base, "artifacts/x", sampling)


def test_cancelling_ends_the_answer_within_a_token_and_without_an_ending(ready: ReadyModel) -> None:
    cancelled, engine = threading.Event(), FakeEngine(lambda request: itertools.cycle(ids("a")))
    engine.bases[ready.base] = __file__  # type: ignore[assignment]
    pieces: list[Piece] = []
    for piece in generation.answer(engine, ready, QUESTION, Sampling(), Watch(cancelled, 0.0)):
        pieces.append(piece)
        if len(pieces) == 3:
            cancelled.set()
    assert pieces == [Delta("a")] * 3
    assert engine.stopped.is_set()


class Refusing:
    """A renderer whose template does not take the conversation."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def prompt(self, messages: object) -> list[int]:
        raise RenderError("roles must alternate", reason=self._reason)


def test_a_conversation_the_template_refuses_is_the_callers_error(ready: ReadyModel) -> None:
    with pytest.raises(InvalidArgument) as refused:
        generation.prompt_ids(dataclasses.replace(ready, renderer=Refusing("DATASET_UNUSABLE")), QUESTION)  # type: ignore[arg-type]
    assert [violation.field for violation in refused.value.violations] == ["messages"]
    assert "alternate" in refused.value.message


def test_a_template_that_fails_is_the_base_models_fault(ready: ReadyModel) -> None:
    with pytest.raises(RenderError) as failed:
        generation.prompt_ids(dataclasses.replace(ready, renderer=Refusing("BASE_MODEL_UNUSABLE")), QUESTION)  # type: ignore[arg-type]
    assert failed.value.reason == "BASE_MODEL_UNUSABLE"
