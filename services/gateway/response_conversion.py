"""Answers as OpenAI's response objects, whole and as the events of a stream; used by responses."""

import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

from services.gateway import answer_parts
from services.gateway.bodies import Body
from services.gateway.response_request import text_format
from tunesmith.v1.inference_service_pb2 import FINISH_REASON_LENGTH, ChatUsage, FinishReason, StreamChatResponse

Json = dict[str, Any]
_ASKED: Json = {
    "instructions": None,
    "max_output_tokens": None,
    "temperature": 0,
    "top_p": 1,
    "tool_choice": "auto",
    "metadata": {},
}
"""What a response repeats of the request, with the defaults."""
_SAME = {"tools": [], "parallel_tool_calls": True, "previous_response_id": None, "store": False, "truncation": "disabled"}
"""Of every response: nothing is kept, and no tool is called."""


@dataclasses.dataclass(slots=True)
class Reply:
    """One answer while it is written; `digits` make its ids, `asked` is the body of the request."""

    digits: str
    created: int
    asked: Body
    text: str = ""
    finish: FinishReason.ValueType | None = None
    usage: ChatUsage | None = None

    def add(self, piece: StreamChatResponse) -> None:
        """The next piece."""
        self.text += piece.delta
        self.finish = piece.finish_reason or self.finish
        self.usage = piece.usage if piece.HasField("usage") else self.usage

    async def events(self, pieces: AsyncIterator[StreamChatResponse]) -> AsyncGenerator[Json]:
        """What a stream tells, in order; the first once there is a piece."""
        begun = False
        async for piece in pieces:
            for event in () if begun else self._beginning():
                yield event
            begun = True
            self.add(piece)
            if piece.delta:
                yield {"type": "response.output_text.delta", **self._place, "delta": piece.delta, "logprobs": []}
        for event in self._ending():
            yield event

    def whole(self) -> Json:
        """The response object; complete once every piece was added."""
        return {
            "id": f"resp_{self.digits}",
            "object": "response",
            "created_at": self.created,
            "status": self._status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if self._status == "incomplete" else None,
            "model": self.asked["model"],
            "output": [] if self.finish is None else [self._item(self._part(self.text))],
            **{name: self.asked.get(name) or default for name, default in _ASKED.items()},
            **_SAME,
            "text": {"format": text_format(self.asked)},
            "usage": _usage(self.usage) if self.usage else None,
        }

    def _beginning(self) -> Iterator[Json]:
        yield {"type": "response.created", "response": self.whole()}
        yield {"type": "response.in_progress", "response": self.whole()}
        yield {"type": "response.output_item.added", "output_index": 0, "item": self._item()}
        yield {"type": "response.content_part.added", **self._place, "part": self._part("")}

    def _ending(self) -> Iterator[Json]:
        part = self._part(self.text)
        yield {"type": "response.output_text.done", **self._place, "text": self.text, "logprobs": []}
        yield {"type": "response.content_part.done", **self._place, "part": part}
        yield {"type": "response.output_item.done", "output_index": 0, "item": self._item(part)}
        yield {"type": f"response.{self._status}", "response": self.whole()}

    @property
    def _status(self) -> str:
        if self.finish is None:
            return "in_progress"
        return "incomplete" if self.finish == FINISH_REASON_LENGTH else "completed"

    @property
    def _place(self) -> Json:
        return {"item_id": f"msg_{self.digits}", "output_index": 0, "content_index": 0}

    def _item(self, *parts: Json) -> Json:
        return {
            "id": f"msg_{self.digits}",
            "type": "message",
            "role": "assistant",
            "status": self._status,
            "content": list(parts),
        }

    def _part(self, text: str) -> Json:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(counted: ChatUsage) -> Json:
    """Tokens of a request, under the names of responses."""
    counts = answer_parts.usage(counted)
    return {
        "input_tokens": counts["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": counts["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": counts["total_tokens"],
    }
