"""Answers as OpenAI's chat completion objects, whole and in chunks; used by chat."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from services.gateway import answer_parts
from tunesmith.v1.inference_service_pb2 import ChatUsage, StreamChatResponse, TokenLogprob, ToolCall, TopLogprob

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What is the same in every object about one request; `model` as it was asked for, `with_usage` for its stream."""

    id: str
    model: str
    created: int
    with_logprobs: bool
    with_usage: bool

    def whole(self, pieces: Iterable[StreamChatResponse]) -> Json:
        """The answers in one piece, made of the pieces of all of them."""
        gathered: dict[int, StreamChatResponse] = {}
        usage = ChatUsage()
        for piece in pieces:
            if piece.HasField("usage"):
                usage = piece.usage
            _append(gathered.setdefault(piece.index, StreamChatResponse(index=piece.index)), piece)
        choices = [self._choice(gathered[index]) for index in sorted(gathered)]
        return {**self._head("chat.completion"), "choices": choices, "usage": answer_parts.usage(usage)}

    def first(self, index: int) -> Json:
        """The chunk that says who speaks."""
        return self._chunk(index, {"role": "assistant", "content": ""})

    def piece(self, piece: StreamChatResponse, call_count: int) -> Json | None:
        """The next chunk of an answer that has `call_count` tool calls so far; None for a piece that says nothing but the end."""
        if not (piece.delta or piece.logprobs or piece.tool_calls):
            return None
        calls = [{"index": call_count + number, **_call(call)} for number, call in enumerate(piece.tool_calls)]
        delta = {"tool_calls": calls} if calls else {"content": piece.delta}
        return self._chunk(piece.index, delta, logprobs=piece.logprobs)

    def last(self, piece: StreamChatResponse) -> Json:
        """The chunk that says why an answer ended."""
        return self._chunk(piece.index, {}, ending=answer_parts.finish(piece.finish_reason))

    def usage(self, counted: ChatUsage) -> Json:
        """The chunk after the last one, when it was asked for."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": answer_parts.usage(counted)}

    def _choice(self, piece: StreamChatResponse) -> Json:
        message: Json = {"role": "assistant", "content": piece.delta, "refusal": None}
        if piece.tool_calls:
            message |= {"content": piece.delta or None, "tool_calls": [_call(call) for call in piece.tool_calls]}
        logprobs = self._logprobs(piece.logprobs)
        return {
            "index": piece.index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": answer_parts.finish(piece.finish_reason),
        }

    def _chunk(self, index: int, delta: Json, *, ending: str | None = None, logprobs: Iterable[TokenLogprob] = ()) -> Json:
        told = list(logprobs)
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": self._logprobs(told) if told else None,
            "finish_reason": ending,
        }
        # Clients that asked for the usage expect the key in every chunk.
        return {**self._head("chat.completion.chunk"), "choices": [choice], **({"usage": None} if self.with_usage else {})}

    def _logprobs(self, tokens: Iterable[TokenLogprob]) -> Json | None:
        if not self.with_logprobs:
            return None
        content = [{**_token(token), "top_logprobs": [_token(top) for top in token.top]} for token in tokens]
        return {"content": content, "refusal": None}

    def _head(self, kind: str) -> Json:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "system_fingerprint": None}


def _append(answer: StreamChatResponse, piece: StreamChatResponse) -> None:
    answer.delta += piece.delta
    answer.logprobs.extend(piece.logprobs)
    answer.tool_calls.extend(piece.tool_calls)
    answer.finish_reason = piece.finish_reason or answer.finish_reason


def _call(call: ToolCall) -> Json:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _token(token: TokenLogprob | TopLogprob) -> Json:
    return {"token": token.token, "logprob": answer_parts.logprob(token.logprob), "bytes": list(token.bytes)}
