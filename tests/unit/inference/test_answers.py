"""What comes back over the wire beside plain text: choices, log-probabilities, tool calls, constrained answers, texts, scores."""

import itertools
import math
from collections.abc import Iterator

import grpc
import pytest
from chat_families import FAMILIES
from inference_fakes import ARTIFACT
from inference_service import DEADLINE_SECONDS, END_ID, HELLO, TOKENIZER, Service, eventually, saying
from tiny_model import make_tiny_model

from services.common.bundles import Bundle
from services.common.rich_status import reason_of
from services.inference.engine import GenerationRequest
from tunesmith.v1 import inference_service_pb2 as pb2

BELL = pb2.Tool(name="bell", parameters='{"type": "object", "properties": {"times": {"type": "integer"}}}')
CALL = '<tool_call>\n{"name": "bell", "arguments": {"times": 2}}\n</tool_call>'


def saying_its_seed(request: GenerationRequest) -> Iterator[int]:
    words = f"I am {request.sampling.seed}"
    return itertools.chain(TOKENIZER.encode(words, add_special_tokens=False).ids, itertools.repeat(END_ID))


@pytest.fixture
def with_tools(service: Service, tmp_path: object) -> str:
    """The name of a model whose template writes tools."""
    directory = make_tiny_model(tmp_path / "tools", chat_template=FAMILIES["qwen3"].template)  # type: ignore[operator]
    service.bundles.by_name["baseModels/tools"] = Bundle("baseModels/tools", directory, "baseModels/tools", "r1")
    return "tools"


async def test_each_choice_has_a_seed_of_its_own_and_the_first_has_the_one_given(service: Service) -> None:
    service.engine.script = saying_its_seed
    response = await service.chat(n=3, seed=2**63 - 1)
    assert [choice.index for choice in response.choices] == [0, 1, 2]
    said = [choice.message.content for choice in response.choices]
    assert said == [f"I am {seed}" for seed in (2**63 - 1, 0, 1)]
    assert response.message == response.choices[0].message
    assert response.usage.prompt_tokens == len(service.engine.requests[0].prompt)
    assert response.usage.completion_tokens == sum(len(TOKENIZER.encode(words).ids) for words in said)


async def test_choices_are_streamed_side_by_side_and_the_last_message_has_the_usage_of_all(service: Service) -> None:
    service.engine.script = saying_its_seed
    responses = [response async for response in service.stream(n=2, seed=5)]
    texts = ["".join(response.delta for response in responses if response.index == index) for index in (0, 1)]
    assert texts == ["I am 5", "I am 6"]
    assert [response.finish_reason for response in responses if response.finish_reason] == [pb2.FINISH_REASON_STOP] * 2
    assert [response.HasField("usage") for response in responses] == [False] * (len(responses) - 1) + [True]
    assert responses[-1].usage == pb2.ChatUsage(
        prompt_tokens=len(service.engine.requests[0].prompt),
        completion_tokens=12,
        time_to_first_token=responses[-1].usage.time_to_first_token,
        total_time=responses[-1].usage.total_time,
    )


async def test_log_probabilities_are_told_for_every_token_of_the_answer(service: Service) -> None:
    response = await service.chat(logprobs=True, top_logprobs=1)
    (choice,) = response.choices
    assert "".join(token.token for token in choice.logprobs) == "Good day!"
    assert all(token.logprob == math.log(0.5) for token in choice.logprobs)
    assert choice.logprobs[0].bytes == b"G"
    assert [(top.token_id, top.token) for top in choice.logprobs[0].top] == [(0, "<|endoftext|>")]
    streamed = [token async for response in service.stream(logprobs=True) for token in response.logprobs]
    assert [token.token_id for token in streamed] == [token.token_id for token in choice.logprobs]
    assert not any(token.top for token in streamed)
    assert not (await service.chat()).choices[0].logprobs


async def test_the_first_token_of_a_character_of_two_is_told_though_it_has_no_text_yet(service: Service) -> None:
    service.engine.script = saying("é")
    first, second, _ = [response async for response in service.stream(logprobs=True)]
    assert (first.delta, first.logprobs[0].token, first.logprobs[0].bytes) == ("", "\N{REPLACEMENT CHARACTER}", b"\xc3")
    assert (second.delta, second.logprobs[0].bytes) == ("é", b"\xa9")


async def test_tool_calls_come_apart_from_the_text_whole_and_with_their_reason(service: Service, with_tools: str) -> None:
    service.engine.script = saying(f"I ring.\n{CALL}")
    message, reason = (response := await service.chat(model=with_tools, tools=[BELL])).message, response.finish_reason
    (call,) = message.tool_calls
    assert (message.content, call.name, call.arguments) == ("I ring.\n", "bell", '{"times": 2}')
    assert reason == pb2.FINISH_REASON_TOOL_CALLS
    *pieces, last = [response async for response in service.stream(model=with_tools, tools=[BELL])]
    (streamed,) = [call for piece in pieces for call in piece.tool_calls]
    assert (streamed.name, streamed.arguments) == ("bell", '{"times": 2}')
    assert "".join(piece.delta for piece in pieces) == "I ring.\n"
    assert last.finish_reason == pb2.FINISH_REASON_TOOL_CALLS


async def test_without_tools_a_call_is_text(service: Service, with_tools: str) -> None:
    service.engine.script = saying(CALL)
    for fields in ({}, {"tools": [BELL], "tool_choice": pb2.ToolChoice(mode=pb2.ToolChoice.MODE_NONE)}):
        response = await service.chat(model=with_tools, **fields)
        assert (response.message.content, response.finish_reason) == (CALL, pb2.FINISH_REASON_STOP)


async def test_a_call_that_is_cut_off_is_text_and_says_length(service: Service, with_tools: str) -> None:
    service.engine.script = saying(CALL)
    response = await service.chat(model=with_tools, tools=[BELL], max_tokens=20)
    assert response.message.content == CALL[:20]
    assert (response.finish_reason, len(response.message.tool_calls)) == (pb2.FINISH_REASON_LENGTH, 0)


async def test_what_a_tool_gave_back_is_answered(service: Service, with_tools: str) -> None:
    called = pb2.ChatMessage(role="assistant", tool_calls=[pb2.ToolCall(id="c1", name="bell", arguments='{"times": 2}')])
    turns = [*HELLO, called, pb2.ChatMessage(role="tool", tool_call_id="c1", content="rang twice")]
    await service.chat(model=with_tools, tools=[BELL], messages=turns)
    text = TOKENIZER.decode(service.engine.requests[0].prompt)
    assert '{"name": "bell", "arguments": {"times": 2}}' in text
    assert "rang twice" in text


async def test_a_constraint_reaches_the_engine_and_one_that_cannot_be_enforced_does_not(service: Service) -> None:
    await service.chat(response_format=pb2.ResponseFormat(regex="Good day!"))
    with pytest.raises(grpc.aio.AioRpcError, match="unclosed group") as refused:
        await service.chat(response_format=pb2.ResponseFormat(regex="(a"))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len(service.engine.requests) == 1


async def test_tools_are_refused_by_a_model_whose_template_has_none(service: Service) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await service.chat(tools=[BELL])
    assert (reason_of(refused.value), refused.value.code()) == ("TOOLS_UNSUPPORTED", grpc.StatusCode.FAILED_PRECONDITION)


async def complete(service: Service, **fields: object) -> pb2.CompleteResponse:
    request = pb2.CompleteRequest(completion=pb2.Completion(**{"model": "tiny", **fields}))
    return await service.stub.Complete(request, timeout=DEADLINE_SECONDS)


async def test_a_text_is_continued_without_a_template(service: Service) -> None:
    response = await complete(service, text="Hello, ", n=2)
    assert [choice.text for choice in response.choices] == ["Good day!"] * 2
    assert [choice.index for choice in response.choices] == [0, 1]
    assert list(service.engine.requests[0].prompt) == TOKENIZER.encode("Hello, ").ids
    assert response.usage.prompt_tokens == len("Hello, ")


async def test_an_echo_begins_with_the_prompt_and_its_judgement(service: Service) -> None:
    response = await complete(service, text="the a", echo=True, logprobs=True, max_tokens=3)
    (choice,) = response.choices
    assert choice.text == "the aGoo"
    assert [token.token for token in choice.logprobs] == ["the", " ", "a", "G", "o", "o"]
    assert not choice.logprobs[0].HasField("logprob")
    assert all(token.HasField("logprob") for token in choice.logprobs[1:])
    assert choice.finish_reason == pb2.FINISH_REASON_LENGTH


async def test_an_echo_alone_writes_nothing(service: Service) -> None:
    ids = pb2.TokenIds(ids=TOKENIZER.encode("the a").ids)
    response = await complete(service, token_ids=ids, echo=True, logprobs=True, max_tokens=0, model="tiny")
    assert response.choices[0].text == "the a"
    assert len(response.choices[0].logprobs) == 3
    assert response.usage.completion_tokens == 0


async def test_a_streamed_text_says_what_a_whole_one_says(service: Service) -> None:
    fields = {"model": "tiny", "text": "the a", "echo": True, "logprobs": True}
    request = pb2.StreamCompleteRequest(completion=pb2.Completion(**fields))
    responses = [response async for response in service.stub.StreamComplete(request, timeout=DEADLINE_SECONDS)]
    whole = (await complete(service, **fields)).choices[0]
    assert "".join(response.text for response in responses) == whole.text == "the aGood day!"
    assert [token for response in responses for token in response.logprobs] == list(whole.logprobs)
    assert responses[0].text == "the a"
    assert responses[-1].finish_reason == whole.finish_reason
    assert responses[-1].HasField("usage")


@pytest.mark.parametrize("model", ["tiny", ARTIFACT])
async def test_a_conversation_is_judged_by_the_assistants_tokens(service: Service, model: str) -> None:
    turns = [*HELLO, pb2.ChatMessage(role="assistant", content="Hi")]
    response = await service.stub.ScoreChat(pb2.ScoreChatRequest(model=model, messages=turns), timeout=DEADLINE_SECONDS)
    assert [token.token for token in response.tokens] == ["H", "i", "<|im_end|>"]
    assert (response.total_logprob, response.loss) == (pytest.approx(3 * math.log(0.5)), pytest.approx(-math.log(0.5)))
    assert response.conversation_tokens == len(service.engine.requests[0].prompt)
    await eventually(lambda: not service.engine.rows)


async def test_turns_of_weight_0_are_context(service: Service) -> None:
    turns = [*HELLO, pb2.ChatMessage(role="assistant", content="Hi", weight=0)]
    turns += [*HELLO, pb2.ChatMessage(role="assistant", content="Yo", weight=1)]
    response = await service.stub.ScoreChat(pb2.ScoreChatRequest(model="tiny", messages=turns), timeout=DEADLINE_SECONDS)
    assert [token.token for token in response.tokens] == ["Y", "o", "<|im_end|>"]


async def test_a_conversation_without_an_answer_is_not_judged(service: Service) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="nothing to judge") as refused:
        await service.stub.ScoreChat(pb2.ScoreChatRequest(model="tiny", messages=HELLO), timeout=DEADLINE_SECONDS)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
