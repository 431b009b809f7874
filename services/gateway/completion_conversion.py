"""Continued texts as OpenAI's text completion objects, whole and in pieces; used by completions."""

import codecs
import dataclasses
from collections.abc import Iterable
from typing import Any

from services.gateway import answer_parts
from tunesmith.v1.inference_service_pb2 import ChatUsage, StreamCompleteResponse, TokenLogprob

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class TextAnswer:
    """What is the same in every object about one request; `model` as it was asked for."""

    id: str
    model: str
    created: int
    with_logprobs: bool

    def whole(self, texts: Iterable["Text"], usage: ChatUsage) -> Json:
        """The texts in one piece."""
        choices = [each.choice(self.with_logprobs) for each in texts]
        return {**self._head(), "choices": choices, "usage": answer_parts.usage(usage)}

    def piece(self, choice: Json, *, with_usage: bool) -> Json:
        """The next piece of a text."""
        # Clients that asked for the usage expect the key in every piece.
        return {**self._head(), "choices": [choice], **({"usage": None} if with_usage else {})}

    def usage(self, counted: ChatUsage) -> Json:
        """The piece after the last one, when it was asked for."""
        return {**self._head(), "choices": [], "usage": answer_parts.usage(counted)}

    def _head(self) -> Json:
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": None,
        }


class Text:
    """One text as it grows; `index` is its place among all texts of the request."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._pieces: list[StreamCompleteResponse] = []
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def add(self, piece: StreamCompleteResponse) -> None:
        """The next piece, for `choice`."""
        self._pieces.append(piece)

    def choice(self, with_logprobs: bool) -> Json:
        """Everything that was added."""
        whole = StreamCompleteResponse(text="".join(piece.text for piece in self._pieces))
        for piece in self._pieces:
            whole.logprobs.extend(piece.logprobs)
            whole.finish_reason = piece.finish_reason or whole.finish_reason
        return self.piece(whole, with_logprobs)

    def piece(self, piece: StreamCompleteResponse, with_logprobs: bool) -> Json:
        """One piece as a choice; offsets go on from the piece before."""
        return {
            "index": self._index,
            "text": piece.text,
            "logprobs": self._logprobs(piece.logprobs) if with_logprobs else None,
            "finish_reason": answer_parts.finish(piece.finish_reason) if piece.finish_reason else None,
        }

    def _logprobs(self, tokens: Iterable[TokenLogprob]) -> Json:
        """Lists side by side, an item a token; the first token of a text has no probability."""
        told: Json = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for token in tokens:
            known = token.HasField("logprob")
            told["tokens"].append(token.token)
            told["token_logprobs"].append(answer_parts.logprob(token.logprob) if known else None)
            tops = {top.token: answer_parts.logprob(top.logprob) for top in reversed(token.top)}
            told["top_logprobs"].append(tops if known else None)
            told["text_offset"].append(self._offset)
            self._offset += len(self._characters.decode(token.bytes))
        return told
