"""/v1/chat/completions: answers of base and tuned models, whole or as they are written."""

import contextlib
import time
import uuid
from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.gateway import bodies, chat_request, sse
from services.gateway.asking import Asking
from services.gateway.bodies import optional
from services.gateway.chat_conversion import Answer
from services.gateway.presence import while_connected
from tunesmith.v1.inference_service_pb2 import ChatUsage, StreamChatRequest, StreamChatResponse


class Chat(Asking):
    """The resource. Whoever goes away ends the generation: closing the stream cancels the call."""

    async def create(self, request: Request) -> Response:
        """POST; with `stream` as server-sent events."""
        body = await bodies.read_json(request, self._max_body)
        request.state.ignored_parameters = chat_request.ignored(body)
        asked, usage = chat_request.question(body), chat_request.includes_usage(body)
        asked.model = await self._names.model(asked.model)
        answer = Answer(f"chatcmpl-{uuid.uuid4().hex}", body["model"], int(time.time()), asked.logprobs, usage)
        if optional(body, "stream", bool):
            return await sse.respond(request, self._stream(asked, answer))
        return JSONResponse(await while_connected(request, self._whole(asked, answer)))

    async def _whole(self, asked: StreamChatRequest, answer: Answer) -> dict[str, Any]:
        async with contextlib.aclosing(self._pieces(asked)) as stream:
            return answer.whole([piece async for piece in stream])

    async def _stream(self, asked: StreamChatRequest, answer: Answer) -> AsyncGenerator[str]:
        calls: dict[int, int] = {}
        usage = ChatUsage()
        async with contextlib.aclosing(self._pieces(asked)) as stream:
            async for piece in stream:
                if piece.index not in calls:
                    calls[piece.index] = 0
                    yield sse.event(answer.first(piece.index))
                if chunk := answer.piece(piece, calls[piece.index]):
                    calls[piece.index] += len(piece.tool_calls)
                    yield sse.event(chunk)
                if piece.finish_reason:
                    yield sse.event(answer.last(piece))
                if piece.HasField("usage"):
                    usage = piece.usage
        if answer.with_usage:
            yield sse.event(answer.usage(usage))
        yield sse.DONE

    def _pieces(self, asked: StreamChatRequest) -> AsyncGenerator[StreamChatResponse]:
        return self._peers.inference.stream(self._peers.chat.StreamChat, asked, self._seconds)
