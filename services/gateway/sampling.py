"""How the next token is chosen: what chats and completions have in common; used by chat_request and completion_request."""

from typing import Any

from services.gateway.bodies import Body, in_32_bits, optional, required
from services.gateway.failures import refused
from tunesmith.v1.inference_service_pb2 import Completion, StreamChatRequest

NUMBERS = {
    "temperature": float,
    "top_p": float,
    "frequency_penalty": float,
    "presence_penalty": float,
    "top_k": int,
    "min_p": float,
    "repetition_penalty": float,
    "n": int,
}
"""Of the same name in the messages of inference."""
READ = (*NUMBERS, "logit_bias", "seed", "stop")
_SEEDS = 2**63


def write_sampling(body: Body, asked: StreamChatRequest | Completion) -> None:
    """Sets what the body says; raises InvalidArgument naming the parameter."""
    for name, kind in NUMBERS.items():
        if (value := optional(body, name, kind)) is not None:
            setattr(asked, name, value if kind is float else in_32_bits(name, value))
    if asked.HasField("n") and asked.n < 1:
        raise refused("n", f"{asked.n} is less than 1")
    asked.logit_bias.update(_logit_bias(body))
    asked.stop.extend(_stops(body.get("stop")))
    if (seed := optional(body, "seed", int)) is not None:
        asked.seed = seed % _SEEDS


def token_limit(body: Body, name: str, *, least: int = 1) -> int | None:
    """A number of tokens; None when it is not said."""
    longest: int | None = optional(body, name, int)
    if longest is None:
        return None
    if longest < least:
        raise refused(name, f"{longest} is less than {least}")
    return in_32_bits(name, longest)


def _stops(given: Any) -> list[str]:
    stops = [given] if isinstance(given, str) else given or []
    if not (isinstance(stops, list) and all(isinstance(stop, str) for stop in stops)):
        raise refused("stop", "is neither a string nor an array of strings")
    return stops


def _logit_bias(body: Body) -> dict[int, float]:
    """Bias by token id."""
    given = optional(body, "logit_bias", dict) or {}
    bias = {}
    for token in given:
        if not (token.isascii() and token.isdigit()):
            raise refused("logit_bias", f"{token[:40]!r} is not the id of a token")
        bias[in_32_bits("logit_bias", int(token[:12]))] = float(required(given, token, float, "logit_bias."))
    return bias
