"""What is asked: proto to domain; used by the servicer."""

from typing import Any

from services.inference.guides import Constraint, Language
from services.inference.question import DEFAULT_MAX_TOKENS, Given, Message, Question
from services.inference.tools import Mode, Tool, ToolCall, ToolChoice
from tunesmith.v1 import inference_service_pb2 as pb2

_MODES = {
    pb2.ToolChoice.MODE_UNSPECIFIED: Mode.AUTO,
    pb2.ToolChoice.MODE_AUTO: Mode.AUTO,
    pb2.ToolChoice.MODE_NONE: Mode.NONE,
    pb2.ToolChoice.MODE_REQUIRED: Mode.REQUIRED,
}
_LANGUAGES = {"json_schema": Language.JSON_SCHEMA, "regex": Language.REGEX}
_ANY_OBJECT = Constraint(Language.JSON_SCHEMA, '{"type": "object"}', "response_format.json_object")

Chat = pb2.ChatRequest | pb2.StreamChatRequest | pb2.CompareChatRequest


def chat_question(request: Chat) -> Question:
    """What is asked, with the defaults for what was left unset; a comparison names no model yet."""
    return Question(
        model="" if isinstance(request, pb2.CompareChatRequest) else request.model,
        messages=tuple(map(_message, request.messages)),
        n=1 if isinstance(request, pb2.CompareChatRequest) else _choices(request),
        tools=tuple(map(_tool, request.tools)),
        tool_choice=ToolChoice(_MODES.get(request.tool_choice.mode, Mode.AUTO), request.tool_choice.function),
        **_shared(request),
    )


def completion_question(request: pb2.Completion) -> Question:
    """What is to be continued, with the defaults for what was left unset."""
    given = Given(request.text, tuple(request.token_ids.ids), request.echo)
    return Question(model=request.model, messages=(), given=given, n=_choices(request), **_shared(request))


def scored_question(request: pb2.ScoreChatRequest) -> Question:
    """What is to be judged."""
    return Question(
        model=request.model,
        messages=tuple(map(_message, request.messages)),
        tools=tuple(map(_tool, request.tools)),
        logprobs=request.top_logprobs,
    )


def _shared(request: Chat | pb2.Completion) -> dict[str, Any]:
    return {
        "temperature": request.temperature if request.HasField("temperature") else 0.0,
        "top_p": request.top_p if request.HasField("top_p") else 1.0,
        "max_tokens": request.max_tokens if request.HasField("max_tokens") else DEFAULT_MAX_TOKENS,
        "seed": request.seed if request.HasField("seed") else None,
        "stop": tuple(request.stop),
        "top_k": request.top_k,
        "min_p": request.min_p,
        "frequency_penalty": request.frequency_penalty,
        "presence_penalty": request.presence_penalty,
        "repetition_penalty": request.repetition_penalty if request.HasField("repetition_penalty") else 1.0,
        "logit_bias": tuple(sorted(request.logit_bias.items())),
        "logprobs": request.top_logprobs if request.logprobs or request.top_logprobs else None,
        "constraint": _constraint(request.response_format),
    }


def _choices(request: pb2.ChatRequest | pb2.StreamChatRequest | pb2.Completion) -> int:
    return request.n if request.HasField("n") else 1


def _constraint(wanted: pb2.ResponseFormat) -> Constraint | None:
    kind = wanted.WhichOneof("format")
    if kind is None:
        return None
    if kind == "json_object":
        return _ANY_OBJECT
    return Constraint(_LANGUAGES[kind], getattr(wanted, kind), f"response_format.{kind}")


def _message(message: pb2.ChatMessage) -> Message:
    calls = tuple(ToolCall(call.id, call.name, call.arguments) for call in message.tool_calls)
    weight = message.weight if message.HasField("weight") else 1
    return Message(message.role, message.content, calls, message.tool_call_id, message.name, weight)


def _tool(tool: pb2.Tool) -> Tool:
    return Tool(tool.name, tool.description, tool.parameters, tool.strict)
