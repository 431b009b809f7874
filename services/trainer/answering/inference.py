"""The inference service over gRPC, as a run asks it, and the trainer's face for runs that train."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from services.common.channels import call_metadata, translated
from services.common.errors import InvalidArgument, Violation
from services.common.grading.sampling import Sampling
from services.trainer.evaluating.turns import Call, Tool, Turn
from services.trainer.evaluating.values import Answer
from tunesmith.v1 import inference_service_pb2 as pb2
from tunesmith.v1 import inference_service_pb2_grpc

TEXT = "text"
"""In place of a role: what stands for itself, without a chat template."""

_MODES = {
    "auto": pb2.ToolChoice.MODE_AUTO,
    "none": pb2.ToolChoice.MODE_NONE,
    "required": pb2.ToolChoice.MODE_REQUIRED,
}
# A peer that is gone is noticed by its pings. One that is slow, a large model without a GPU, is asked again when this is over,
# and what it had written by then is lost: sixteen answers at once take long.
_CALL_SECONDS = 3600.0
_PEER = "the inference service"


@dataclass(frozen=True, slots=True)
class Question:
    """What a model is asked about a row."""

    row: int
    messages: Sequence[Turn]
    tools: Sequence[Tool] = ()
    """That the model may call."""
    tool_choice: Any = None
    """Whether it calls them, in OpenAI's form; None = it decides."""
    keeps_to_schemas: bool = False
    """Whether the arguments of strict tools always fit them."""


class Models(Protocol):
    """Raises what inference says, and Unavailable (INFERENCE_UNAVAILABLE) when it does not answer."""

    async def load(self, model: str) -> str:
        """Loads a model and returns the name of what it is now: an alias may point elsewhere later."""

    async def ask(self, model: str, question: Question, sampling: Sampling) -> Answer:
        """The answer to a row."""

    async def judge(self, model: str, question: Question) -> Answer:
        """How probable the last turn is, the known answer to a row; with the role TEXT, a text as it stands."""


class Inference:
    """One inference service."""

    def __init__(self, channel: grpc.aio.Channel, *, api_key: str = "") -> None:
        self._stub = inference_service_pb2_grpc.InferenceServiceStub(channel)
        self._api_key = api_key

    async def load(self, model: str, *, ahead: bool = False) -> str:
        """See Models; `ahead` as in LoadModelRequest."""
        request = pb2.LoadModelRequest(model=model, ahead=ahead)
        with translated("INFERENCE_UNAVAILABLE", _PEER):
            found = await self._stub.LoadModel(request, timeout=_CALL_SECONDS, metadata=call_metadata(self._api_key))
        return found.model

    async def ask(self, model: str, question: Question, sampling: Sampling) -> Answer:
        """See Models."""
        request = pb2.ChatRequest(
            model=model,
            messages=map(_message, question.messages),
            tools=[_tool(tool, keeps_to_schemas=question.keeps_to_schemas) for tool in question.tools],
            tool_choice=_choice(question.tool_choice),
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            # A seed of its own for each row: what is answered does not depend on the order, nor on where a run went on.
            seed=sampling.seed + question.row,
            stop=sampling.stop,
            response_format=pb2.ResponseFormat(regex=sampling.regex) if sampling.regex else None,
        )
        with translated("INFERENCE_UNAVAILABLE", _PEER):
            found = await self._stub.Chat(request, timeout=_CALL_SECONDS, metadata=call_metadata(self._api_key))
        return Answer(
            row=question.row,
            text=found.message.content,
            tool_calls=[_call(call) for call in found.message.tool_calls],
            finish_reason=pb2.FinishReason.Name(found.finish_reason).removeprefix("FINISH_REASON_"),
            seconds=found.usage.total_time.ToMicroseconds() / 1e6,
            tokens=found.usage.completion_tokens,
            prompt_tokens=found.usage.prompt_tokens,
        )

    async def judge(self, model: str, question: Question) -> Answer:
        """See Models."""
        *before, known = question.messages
        if known["role"] == TEXT:
            return await self._judge_text(model, question.row, known["content"])
        turns = [*map(_context, before), _message(known)]
        request = pb2.ScoreChatRequest(model=model, messages=turns, tools=map(_tool, question.tools))
        with translated("INFERENCE_UNAVAILABLE", _PEER):
            found = await self._stub.ScoreChat(request, timeout=_CALL_SECONDS, metadata=call_metadata(self._api_key))
        return Answer(question.row, logprob=found.total_logprob, tokens=len(found.tokens))

    async def _judge_text(self, model: str, row: int, text: str) -> Answer:
        completion = pb2.Completion(model=model, text=text, echo=True, max_tokens=0, logprobs=True)
        request = pb2.CompleteRequest(completion=completion)
        with translated("INFERENCE_UNAVAILABLE", _PEER):
            found = await self._stub.Complete(request, timeout=_CALL_SECONDS, metadata=call_metadata(self._api_key))
        # Before the first token nothing stands that could make it probable.
        known = [token.logprob for token in found.choices[0].logprobs if token.HasField("logprob")]
        if not known:
            return Answer(row, reason="INVALID_FIELD", message="the text has fewer than two tokens")
        return Answer(row, logprob=sum(known), tokens=len(known))


def _message(turn: Turn) -> pb2.ChatMessage:
    calls = [
        pb2.ToolCall(id=call["id"], name=call["function"]["name"], arguments=call["function"]["arguments"])
        for call in turn.get("tool_calls", ())
    ]
    return pb2.ChatMessage(
        role=turn["role"],
        content=turn["content"],
        tool_calls=calls,
        tool_call_id=turn.get("tool_call_id", ""),
        name=turn.get("name", ""),
    )


def _context(turn: Turn) -> pb2.ChatMessage:
    """A turn that is not judged."""
    message = _message(turn)
    if message.role == "assistant":
        message.weight = 0
    return message


def _tool(tool: Tool, *, keeps_to_schemas: bool = False) -> pb2.Tool:
    """Strict only where that is wanted: an evaluation measures what the model learned, not what it cannot help writing."""
    function: Mapping[str, Any] = tool["function"]
    return pb2.Tool(
        name=function["name"],
        description=function.get("description", ""),
        parameters=json.dumps(function["parameters"], ensure_ascii=False) if function.get("parameters") else "",
        strict=keeps_to_schemas and function.get("strict") is True,
    )


def _choice(given: Any) -> pb2.ToolChoice | None:
    if given is None:
        return None
    if isinstance(given, str) and given in _MODES:
        return pb2.ToolChoice(mode=_MODES[given])
    function = given.get("function") if isinstance(given, dict) else None
    if isinstance(function, dict) and isinstance(function.get("name"), str):
        return pb2.ToolChoice(function=function["name"])
    raise InvalidArgument(Violation("tool_choice", f"is none of {', '.join(_MODES)} and no function"))


def _call(call: pb2.ToolCall) -> Call:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
