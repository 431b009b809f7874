"""Answers as OpenAI's completion objects, whole and in chunks; used by chat."""

import dataclasses
from typing import Any

from tunesmith.v1.inference_service_pb2 import FINISH_REASON_LENGTH, ChatUsage, StreamChatResponse


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What is the same in every object about one answer; `model` as it was asked for."""

    id: str
    model: str
    created: int

    def whole(self, text: str, ending: StreamChatResponse) -> dict[str, Any]:
        """The answer in one piece."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(ending)}
        return {**self._head("chat.completion"), "choices": [choice], "usage": _usage(ending.usage)}

    def first(self, *, with_usage: bool) -> dict[str, Any]:
        """The chunk that says who speaks."""
        return self._chunk({"role": "assistant", "content": ""}, None, with_usage)

    def delta(self, text: str, *, with_usage: bool) -> dict[str, Any]:
        """The next piece of text."""
        return self._chunk({"content": text}, None, with_usage)

    def last(self, ending: StreamChatResponse, *, with_usage: bool) -> dict[str, Any]:
        """The chunk that says why it ended."""
        return self._chunk({}, _finish(ending), with_usage)

    def usage(self, ending: StreamChatResponse) -> dict[str, Any]:
        """The chunk after the last one, when it was asked for."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": _usage(ending.usage)}

    def _chunk(self, delta: dict[str, str], finish: str | None, with_usage: bool) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        # Clients that asked for the usage expect the key in every chunk.
        return {**self._head("chat.completion.chunk"), "choices": [choice], **({"usage": None} if with_usage else {})}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "system_fingerprint": None}


def _finish(ending: StreamChatResponse) -> str:
    return "length" if ending.finish_reason == FINISH_REASON_LENGTH else "stop"


def _usage(usage: ChatUsage) -> dict[str, int]:
    total = usage.prompt_tokens + usage.completion_tokens
    return {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens, "total_tokens": total}
