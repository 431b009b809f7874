"""POST /v1/chat/completions as StreamChat; one table says what becomes of every parameter."""

from typing import Any

from services.gateway.bodies import Body, in_32_bits, optional, required
from services.gateway.failures import refused
from services.gateway.unsupported import refuse_present
from tunesmith.v1.inference_service_pb2 import ChatMessage, StreamChatRequest

_REFUSED = {
    "audio": "is not supported: models answer with text",
    "function_call": "is not supported",
    "functions": "is not supported",
    "logprobs": "is not supported",
    "prediction": "is not supported",
    "tools": "is not supported: models answer with text",
    "top_logprobs": "is not supported",
    "web_search_options": "is not supported",
}
_NUMBERS = {
    "temperature": float,
    "top_p": float,
    "frequency_penalty": float,
    "presence_penalty": float,
    "top_k": int,
    "min_p": float,
    "repetition_penalty": float,
}
"""Of the same name in StreamChatRequest; one it does not have is refused unless it asks for nothing."""
_READ = ("messages", "model", *_NUMBERS, "logit_bias", "max_tokens", "max_completion_tokens", "seed", "stop", "stream")
_CHECKED = ("stream_options", "n", "modalities", "response_format", "tool_choice")
_ROLES = {"developer": "system"}
_SEEDS = 2**63


def question(body: Body) -> StreamChatRequest:
    """What is asked, `model` as the caller names it; raises InvalidArgument naming the parameter that cannot be answered."""
    _refuse_unsupported(body)
    includes_usage(body)
    model, messages = required(body, "model", str), required(body, "messages", list)
    asked = StreamChatRequest(
        model=model,
        messages=[_message(message, index) for index, message in enumerate(messages)],
        stop=_stops(body.get("stop")),
    )
    for name, kind in _NUMBERS.items():
        if (value := optional(body, name, kind)) is not None and _can_take(name, value):
            setattr(asked, name, value if kind is float else in_32_bits(name, value))
    if bias := _logit_bias(body):
        fields: Any = asked  # the field may be newer than the stubs
        fields.logit_bias.update(bias)
    if (longest := _max_tokens(body)) is not None:
        asked.max_tokens = longest
    if (seed := optional(body, "seed", int)) is not None:
        asked.seed = seed % _SEEDS
    return asked


def includes_usage(body: Body) -> bool:
    """Whether a stream ends with the usage."""
    options = optional(body, "stream_options", dict) or {}
    return bool(optional(options, "include_usage", bool, "stream_options."))


def ignored(body: Body) -> list[str]:
    """Parameters that change nothing here; they are told in a header."""
    return sorted(set(body) - {*_READ, *_CHECKED, *_REFUSED})


def _refuse_unsupported(body: Body) -> None:
    refuse_present(body, _REFUSED)
    if body.get("n") not in (None, 1):
        raise refused("n", "one answer is made a request", reason="UNSUPPORTED_PARAMETER")
    if body.get("modalities") not in (None, ["text"]):
        raise refused("modalities", "models answer with text", reason="UNSUPPORTED_PARAMETER")
    form = optional(body, "response_format", dict) or {}
    if form.get("type", "text") != "text":
        raise refused("response_format", "only text is supported", reason="UNSUPPORTED_PARAMETER")
    if body.get("tool_choice") not in (None, "none", "auto"):
        raise refused("tool_choice", "there are no tools", reason="UNSUPPORTED_PARAMETER")


def _message(message: Any, index: int) -> ChatMessage:
    path = f"messages[{index}]."
    if not isinstance(message, dict):
        raise refused(path.rstrip("."), "is not an object")
    for name in ("tool_calls", "function_call", "tool_call_id"):
        if message.get(name):
            raise refused(path + name, "is not supported: models answer with text", reason="UNSUPPORTED_PARAMETER")
    role = required(message, "role", str, path)
    return ChatMessage(role=_ROLES.get(role, role), content=_content(message.get("content"), path))


def _content(content: Any, path: str) -> str:
    """A text, or the texts of its parts one after the other."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise refused(path + "content", "is neither a string nor an array of parts")
    texts = []
    for number, part in enumerate(content):
        place = f"{path}content[{number}]."
        if not isinstance(part, dict) or part.get("type") != "text":
            raise refused(place + "type", "only parts of type text are supported", reason="UNSUPPORTED_PARAMETER")
        texts.append(optional(part, "text", str, place) or "")
    return "".join(texts)


def _stops(given: Any) -> list[str]:
    stops = [given] if isinstance(given, str) else given or []
    if not (isinstance(stops, list) and all(isinstance(stop, str) for stop in stops)):
        raise refused("stop", "is neither a string nor an array of strings")
    return stops


def _can_take(name: str, value: object) -> bool:
    """Whether inference has the field; raises InvalidArgument when it has not and the value asks for something."""
    if name not in StreamChatRequest.DESCRIPTOR.fields_by_name:
        refuse_present({name: value}, {name: "is not supported"})
        return False
    return True


def _logit_bias(body: Body) -> dict[int, float]:
    """Bias by token id; raises InvalidArgument."""
    given = optional(body, "logit_bias", dict) or {}
    if not _can_take("logit_bias", given):
        return {}
    bias = {}
    for token in given:
        if not (token.isascii() and token.isdigit()):
            raise refused("logit_bias", f"{token[:40]!r} is not the id of a token")
        bias[in_32_bits("logit_bias", int(token[:12]))] = float(required(given, token, float, "logit_bias."))
    return bias


def _max_tokens(body: Body) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        longest: int | None = optional(body, name, int)
        if longest is not None:
            if longest < 1:
                raise refused(name, f"{longest} is less than 1")
            return in_32_bits(name, longest)
    return None
