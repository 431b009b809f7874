"""What answers of chats and completions have in common in OpenAI's words; used by their conversions."""

import math

from tunesmith.v1.inference_service_pb2 import (
    FINISH_REASON_LENGTH,
    FINISH_REASON_TOOL_CALLS,
    ChatUsage,
    FinishReason,
)

_FINISHES = {FINISH_REASON_LENGTH: "length", FINISH_REASON_TOOL_CALLS: "tool_calls"}
_LEAST_LOGPROB = -9999.0


def finish(reason: FinishReason.ValueType) -> str:
    """Why an answer ended."""
    return _FINISHES.get(reason, "stop")


def usage(counted: ChatUsage) -> dict[str, int]:
    """Tokens of a request."""
    total = counted.prompt_tokens + counted.completion_tokens
    return {"prompt_tokens": counted.prompt_tokens, "completion_tokens": counted.completion_tokens, "total_tokens": total}


def logprob(value: float) -> float:
    """JSON has no infinity; OpenAI writes -9999 for what cannot be."""
    return value if math.isfinite(value) else _LEAST_LOGPROB
