"""InferenceService over a real channel with an engine of scripted tokens: the wire format, errors, and calls that end early."""

import asyncio
import datetime
import itertools
import time
from collections.abc import Iterator

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from inference_fakes import ARTIFACT, TASK
from inference_service import DEADLINE_SECONDS, END_ID, HELLO, NOW, TOKENIZER, Service, eventually, saying

from services.common.catalogue import CATALOGUE
from services.common.errors import ServiceError, Unavailable
from services.common.rich_status import reason_of
from services.inference.engine import GenerationRequest, Sampling
from tunesmith.v1 import inference_service_pb2 as pb2
from tunesmith.v1.task_error_pb2 import ERROR_CLASS_PLATFORM, ERROR_CLASS_TRANSIENT, ERROR_CLASS_USER


async def reason_and_status(call: object) -> tuple[str, grpc.StatusCode]:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call  # type: ignore[misc]
    return reason_of(failed.value), failed.value.code()


async def test_chat_answers_with_message_reason_and_usage(service: Service) -> None:
    response = await service.chat()
    assert response.model == "tiny"
    assert (response.message.role, response.message.content) == ("assistant", "Good day!")
    assert response.finish_reason == pb2.FINISH_REASON_STOP
    assert response.usage.completion_tokens == len(TOKENIZER.encode("Good day!", add_special_tokens=False).ids)
    assert response.usage.prompt_tokens == len(service.engine.requests[0].prompt)
    first, total = (span.ToMicroseconds() for span in (response.usage.time_to_first_token, response.usage.total_time))
    assert 0 < first <= total


async def test_the_stream_says_what_chat_says_and_ends_with_reason_and_usage(service: Service) -> None:
    *deltas, last = [response async for response in service.stream()]
    assert "".join(response.delta for response in deltas) == (await service.chat()).message.content
    assert len(deltas) > 1
    assert not any(response.finish_reason or response.HasField("usage") for response in deltas)
    assert (last.delta, last.finish_reason) == ("", pb2.FINISH_REASON_STOP)
    assert last.usage.completion_tokens > 0


async def test_fields_left_unset_have_the_documented_defaults(service: Service) -> None:
    await service.chat()
    request = service.engine.requests[0]
    assert (request.sampling.temperature, request.sampling.top_p, request.max_tokens) == (0.0, 1.0, 256)
    assert request.sampling.seed == 77


async def test_fields_that_are_set_reach_the_engine_zero_included(service: Service) -> None:
    await service.chat(temperature=1.5, top_p=0.5, max_tokens=5, seed=0)
    request = service.engine.requests[0]
    assert (request.sampling.temperature, request.sampling.top_p, request.max_tokens) == (1.5, 0.5, 5)
    assert request.sampling.seed == 0


SAMPLING = {
    "top_k": 5,
    "min_p": 0.25,
    "frequency_penalty": -1.0,
    "presence_penalty": 1.5,
    "repetition_penalty": 1.25,
    "logit_bias": {7: -3.0, 3: 2.0},
}


async def test_every_sampling_parameter_reaches_the_engine_by_chat_and_stream(service: Service) -> None:
    await service.chat(**SAMPLING)
    await _drained(service.stream(**SAMPLING))
    await service.chat()
    given = Sampling(0.0, 1.0, 77, 5, 0.25, -1.0, 1.5, 1.25, ((3, 2.0), (7, -3.0)))
    assert [request.sampling for request in service.engine.requests] == [given, given, Sampling(seed=77)]


async def test_a_token_that_does_not_exist_is_named(service: Service) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await service.chat(logit_bias={100_000: 1.0}, min_p=0.5)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert _fields(failed.value) == ["logit_bias[100000]"]


def saying_its_model(request: GenerationRequest) -> Iterator[int]:
    words = f"{'tuned' if request.adapter else 'base'} {request.sampling.seed}"
    return itertools.chain(TOKENIZER.encode(words, add_special_tokens=False).ids, itertools.repeat(END_ID))


def compared(service: Service, **fields: object) -> grpc.aio.UnaryStreamCall[pb2.CompareChatRequest, pb2.CompareChatResponse]:
    request = pb2.CompareChatRequest(**{"models": ["tiny", TASK], "messages": HELLO, **fields})
    return service.stub.CompareChat(request, timeout=DEADLINE_SECONDS)


async def test_models_are_compared_in_one_stream_with_the_same_seed(service: Service) -> None:
    service.engine.script = saying_its_model
    responses = [response async for response in compared(service, **SAMPLING)]
    for index, words in enumerate(("base 77", "tuned 77")):
        *deltas, last = [response for response in responses if response.index == index]
        assert "".join(response.delta for response in deltas) == words
        assert (last.finish_reason, last.delta) == (pb2.FINISH_REASON_STOP, "")
        assert last.usage.completion_tokens == len(words)
    assert {request.sampling.top_k for request in service.engine.requests} == {5}
    assert (0, 1) in itertools.pairwise(response.index for response in responses[:-4])


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"models": []}, "models"), ({"models": ["tiny"] * 9}, "models"), ({"min_p": 3.0}, "min_p"), ({"messages": []}, "messages")],
    ids=["no model", "nine models", "bad number", "no message"],
)
async def test_a_bad_comparison_names_its_field(service: Service, fields: dict[str, object], named: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await _drained(compared(service, **fields))
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert _fields(failed.value) == [named]


async def test_when_one_compared_model_fails_the_others_go_on_and_its_last_message_says_why(service: Service) -> None:
    service.engine.script = saying_its_model
    responses = [response async for response in compared(service, models=["unknown", "tiny", TASK])]
    (failed,) = [response for response in responses if response.index == 0]
    assert failed == pb2.CompareChatResponse(
        finish_reason=pb2.FINISH_REASON_FAILED,
        error=pb2.AnswerError(
            reason="BASE_MODEL_NOT_FOUND",
            message=failed.error.message,
            error_class=ERROR_CLASS_USER,
            hint=CATALOGUE["BASE_MODEL_NOT_FOUND"].hint,
        ),
    )
    assert "unknown" in failed.error.message
    for index, words in ((1, "base 77"), (2, "tuned 77")):
        *deltas, last = [response for response in responses if response.index == index]
        assert "".join(response.delta for response in deltas) == words
        assert (last.finish_reason, last.HasField("error")) == (pb2.FINISH_REASON_STOP, False)


async def test_a_compared_model_that_fails_in_the_middle_keeps_what_it_said(service: Service) -> None:
    def script(request: GenerationRequest) -> Iterator[int]:
        return _failing_after("Go", ServiceError("ENGINE_CRASHED", "gone")) if request.adapter else saying("Good day!")(request)

    service.engine.script = script
    responses = [response async for response in compared(service)]
    texts = ["".join(response.delta for response in responses if response.index == index) for index in (0, 1)]
    assert texts == ["Good day!", "Go"]
    (failed,) = [response for response in responses if response.HasField("error")]
    assert (failed.index, failed.error.reason, failed.error.error_class) == (
        1,
        "ENGINE_CRASHED",
        ERROR_CLASS_TRANSIENT,
    )


async def test_a_compared_model_that_breaks_in_a_way_nobody_foresaw_is_internal_and_the_others_go_on(service: Service) -> None:
    service.bundles.by_name["baseModels/broken"] = None  # type: ignore[assignment]
    responses = [response async for response in compared(service, models=["broken", "tiny"])]
    (failed,) = [response for response in responses if response.index == 0]
    assert (failed.error.reason, failed.error.error_class) == ("INTERNAL", ERROR_CLASS_PLATFORM)
    assert "request id" in failed.error.message
    assert "".join(response.delta for response in responses if response.index == 1) == "Good day!"


async def test_when_all_compared_models_fail_the_call_fails_with_the_first_ones_error(service: Service) -> None:
    call = compared(service, models=["unknown", "artifacts/44444444-4444-4444-8444-444444444444"])
    told: list[pb2.CompareChatResponse] = []
    assert await reason_and_status(_gathered(call, told)) == ("BASE_MODEL_NOT_FOUND", grpc.StatusCode.NOT_FOUND)
    assert {part.index: part.error.reason for part in told} == {0: "BASE_MODEL_NOT_FOUND", 1: "ARTIFACT_NOT_FOUND"}


async def test_one_model_alone_that_fails_is_a_failed_call(service: Service) -> None:
    call = compared(service, models=["unknown"])
    assert await reason_and_status(_drained(call)) == ("BASE_MODEL_NOT_FOUND", grpc.StatusCode.NOT_FOUND)


async def test_cancelling_a_comparison_ends_all_of_it(service: Service) -> None:
    service.engine.script = _endless
    call = compared(service, max_tokens=400)
    while len(service.engine.rows) < 2:
        await call.read()
    call.cancel()
    await eventually(lambda: not service.engine.rows)
    await service.stub.UnloadModel(pb2.UnloadModelRequest(model="tiny"))


async def test_a_cut_answer_says_so(service: Service) -> None:
    response = await service.chat(max_tokens=4)
    assert (response.message.content, response.finish_reason) == ("Good", pb2.FINISH_REASON_LENGTH)


async def test_a_stop_text_ends_stream_and_chat_alike(service: Service) -> None:
    assert (await service.chat(stop=["day"])).message.content == "Good "
    assert "".join([response.delta async for response in service.stream(stop=["day"])]) == "Good "


@pytest.mark.parametrize("model", [ARTIFACT, TASK])
async def test_a_tuned_model_answers_with_its_adapter(service: Service, model: str) -> None:
    response = await service.chat(model=model)
    assert response.model == model
    assert service.engine.requests[0].adapter == ARTIFACT
    assert await service.loaded() == [ARTIFACT, "baseModels/tiny"]


async def test_load_returns_the_model_and_a_repeat_returns_it_as_it_is(service: Service) -> None:
    first = await service.stub.LoadModel(pb2.LoadModelRequest(model=TASK))
    assert (first.model, first.base_model, first.memory_bytes) == (ARTIFACT, "baseModels/tiny", 64)
    assert first.load_time.ToDatetime(datetime.UTC) == NOW
    assert not first.HasField("last_use_time")
    await service.chat(model=TASK)
    again = await service.stub.LoadModel(pb2.LoadModelRequest(model=TASK))
    assert again.last_use_time.ToDatetime(datetime.UTC) == NOW


async def test_ahead_is_refused_where_it_was_not_set_and_what_is_loaded_is_returned(service: Service) -> None:
    ahead = pb2.LoadModelRequest(model="tiny", ahead=True)
    assert await reason_and_status(service.stub.LoadModel(ahead)) == ("NOT_LOADED_AHEAD", grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert await service.loaded() == []
    await service.stub.LoadModel(pb2.LoadModelRequest(model="tiny"))
    assert (await service.stub.LoadModel(ahead)).model == "baseModels/tiny"


async def test_unload_frees_and_is_repeatable(service: Service) -> None:
    await service.chat(model=TASK)
    for _ in range(2):
        await service.stub.UnloadModel(pb2.UnloadModelRequest(model=TASK))
    assert await service.loaded() == ["baseModels/tiny"]
    await service.stub.UnloadModel(pb2.UnloadModelRequest(model="tiny"))
    assert await service.loaded() == []
    await service.stub.UnloadModel(pb2.UnloadModelRequest(model="tasks/44444444-4444-4444-8444-444444444444"))


async def test_a_bad_field_is_named_by_its_path(service: Service) -> None:
    messages = [pb2.ChatMessage(role="user", content="a"), pb2.ChatMessage(role="robot", content="b"), *HELLO]
    for call in (
        service.chat(messages=messages, temperature=float("nan")),
        _drained(service.stream(messages=messages, temperature=9)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call
        assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert _fields(failed.value) == ["messages[1].role", "temperature"]
    assert service.engine.requests == []


@pytest.mark.parametrize(
    ("model", "reason", "status"),
    [
        ("", "INVALID_NAME", grpc.StatusCode.INVALID_ARGUMENT),
        ("datasets/x", "INVALID_NAME", grpc.StatusCode.INVALID_ARGUMENT),
        ("unknown", "BASE_MODEL_NOT_FOUND", grpc.StatusCode.NOT_FOUND),
        ("artifacts/55555555-5555-4555-8555-555555555555", "ARTIFACT_NOT_FOUND", grpc.StatusCode.NOT_FOUND),
        ("tasks/55555555-5555-4555-8555-555555555555", "MODEL_NOT_READY", grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
async def test_a_model_that_cannot_be_had_has_its_reason_everywhere(
    service: Service, model: str, reason: str, status: grpc.StatusCode
) -> None:
    load = service.stub.LoadModel(pb2.LoadModelRequest(model=model))
    for call in (service.chat(model=model), _drained(service.stream(model=model)), load):
        assert await reason_and_status(call) == (reason, status)


async def test_storage_away_is_unavailable(service: Service) -> None:
    service.bundles.failure = Unavailable("STORAGE_UNAVAILABLE", "storage did not answer")
    assert await reason_and_status(service.chat()) == ("STORAGE_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE)


async def test_a_conversation_that_is_too_long_is_refused(service: Service) -> None:
    long = [pb2.ChatMessage(role="user", content="x" * 1000)]
    refused = await reason_and_status(service.chat(messages=long))
    assert refused == ("CONTEXT_LENGTH_EXCEEDED", grpc.StatusCode.INVALID_ARGUMENT)


async def test_a_failing_engine_ends_the_stream_with_an_error_after_the_text(service: Service) -> None:
    def broken(request: GenerationRequest) -> Iterator[int]:
        yield TOKENIZER.token_to_id("a")
        raise LookupError("a bug")

    service.engine.script = broken
    received = []
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        async for response in service.stream():
            received.append(response.delta)
    assert (received, failed.value.code()) == (["a"], grpc.StatusCode.INTERNAL)
    service.engine.script = saying("well again")
    assert (await service.chat()).message.content == "well again"


async def test_cancelling_the_stream_stops_the_engine_and_frees_it(service: Service) -> None:
    service.engine.script = _endless
    call = service.stream(max_tokens=400)
    assert (await call.read()).delta == "a"
    call.cancel()
    await eventually(service.engine.stopped.is_set)
    service.engine.script = saying("next")
    assert (await service.chat()).message.content == "next"


async def test_a_deadline_that_passes_stops_the_engine(service: Service) -> None:
    # Loaded before, the model answers when the deadline passes.
    await service.chat()
    service.engine.stopped.clear()
    written = 0

    def slowly(request: GenerationRequest) -> Iterator[int]:
        nonlocal written
        for token in _endless(request):
            time.sleep(0.01)
            written += 1
            yield token

    service.engine.script = slowly
    request = pb2.ChatRequest(model="tiny", messages=HELLO, max_tokens=400)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await service.stub.Chat(request, timeout=1)
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await eventually(service.engine.stopped.is_set)
    assert 0 < written < 400


async def test_questions_that_come_together_are_all_answered(service: Service) -> None:
    responses = await asyncio.gather(*(service.chat(max_tokens=10 + number) for number in range(5)))
    assert [response.message.content for response in responses] == ["Good day!"] * 5
    assert sorted(request.max_tokens for request in service.engine.requests) == [10, 11, 12, 13, 14]


def _failing_after(text: str, error: ServiceError) -> Iterator[int]:
    yield from TOKENIZER.encode(text, add_special_tokens=False).ids
    raise error


def _endless(request: GenerationRequest) -> Iterator[int]:
    while True:
        time.sleep(0.002)
        yield TOKENIZER.token_to_id("a")


async def _gathered(
    call: grpc.aio.UnaryStreamCall[pb2.CompareChatRequest, pb2.CompareChatResponse], told: list[pb2.CompareChatResponse]
) -> None:
    async for response in call:
        told.append(response)


async def _drained(call: grpc.aio.UnaryStreamCall[pb2.StreamChatRequest, pb2.StreamChatResponse]) -> list[pb2.StreamChatResponse]:
    return [response async for response in call]


def _fields(error: grpc.aio.AioRpcError) -> list[str]:
    bad_request = error_details_pb2.BadRequest()
    status = rpc_status.from_call(error)
    assert any(detail.Unpack(bad_request) for detail in status.details)
    return [violation.field for violation in bad_request.field_violations]
