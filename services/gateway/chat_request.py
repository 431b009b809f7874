"""POST /v1/chat/completions as StreamChat; one table says what becomes of every parameter."""

from services.gateway import chat_form, sampling
from services.gateway.bodies import Body, in_32_bits, optional, required
from services.gateway.chat_messages import message_of
from services.gateway.failures import refused
from services.gateway.sampling import token_limit, write_sampling
from services.gateway.unsupported import refuse_present
from tunesmith.v1.inference_service_pb2 import StreamChatRequest

REFUSED = {
    "audio": "is not supported: models answer with text",
    "function_call": "is the old form; use tool_choice",
    "functions": "is the old form; use tools",
    "prediction": "is not supported",
    "web_search_options": "is not supported",
}
_READ = ("messages", "model", *sampling.READ, "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs", "stream")
_CHECKED = ("stream_options", "modalities", *chat_form.READ)


def question(body: Body) -> StreamChatRequest:
    """What is asked, `model` as the caller names it; raises InvalidArgument naming the parameter that cannot be answered."""
    refuse_present(body, REFUSED)
    if body.get("modalities") not in (None, ["text"]):
        raise refused("modalities", "models answer with text", reason="UNSUPPORTED_PARAMETER")
    includes_usage(body)
    model, messages = required(body, "model", str), required(body, "messages", list)
    asked = StreamChatRequest(
        model=model,
        messages=[message_of(message, index) for index, message in enumerate(messages)],
        max_tokens=_max_tokens(body),
        logprobs=bool(optional(body, "logprobs", bool)),
        top_logprobs=_top_logprobs(body),
        tools=chat_form.tools_of(body),
        tool_choice=chat_form.tool_choice_of(body),
        response_format=chat_form.response_format_of(body),
    )
    write_sampling(body, asked)
    return asked


def includes_usage(body: Body) -> bool:
    """Whether a stream ends with the usage."""
    options = optional(body, "stream_options", dict) or {}
    return bool(optional(options, "include_usage", bool, "stream_options."))


def ignored(body: Body) -> list[str]:
    """Parameters that change nothing here; they are told in a header."""
    return sorted(set(body) - {*_READ, *_CHECKED, *REFUSED})


def _top_logprobs(body: Body) -> int:
    count: int = optional(body, "top_logprobs", int) or 0
    if count and not body.get("logprobs"):
        raise refused("top_logprobs", "is given without logprobs")
    return in_32_bits("top_logprobs", count)


def _max_tokens(body: Body) -> int | None:
    longest = token_limit(body, "max_completion_tokens")
    return longest if longest is not None else token_limit(body, "max_tokens")
