"""/v1/responses: a chat in OpenAI's newer form. Nothing is kept: a response can be read once, by whoever asked."""

import contextlib
import time
import uuid
from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.gateway import bodies, response_request, sse
from services.gateway.asking import Asking
from services.gateway.bodies import optional
from services.gateway.job_labels import metadata_in
from services.gateway.presence import while_connected
from services.gateway.response_conversion import Reply
from tunesmith.v1.inference_service_pb2 import StreamChatRequest, StreamChatResponse


class Responses(Asking):
    """The resource. Whoever goes away ends the generation: closing the stream cancels the call."""

    async def create(self, request: Request) -> Response:
        """POST; with `stream` as server-sent events."""
        body = await bodies.read_json(request, self._max_body)
        request.state.ignored_parameters = response_request.ignored(body)
        asked = response_request.question(body)
        metadata_in(body)
        asked.model = await self._names.model(asked.model)
        reply = Reply(uuid.uuid4().hex, int(time.time()), body)
        if optional(body, "stream", bool):
            return await sse.respond(request, self._stream(asked, reply))
        return JSONResponse(await while_connected(request, self._whole(asked, reply)))

    async def _whole(self, asked: StreamChatRequest, reply: Reply) -> dict[str, Any]:
        async with contextlib.aclosing(self._pieces(asked)) as stream:
            async for piece in stream:
                reply.add(piece)
        return reply.whole()

    async def _stream(self, asked: StreamChatRequest, reply: Reply) -> AsyncGenerator[str]:
        number = 0
        async with contextlib.aclosing(self._pieces(asked)) as stream, contextlib.aclosing(reply.events(stream)) as events:
            async for event in events:
                yield sse.event({**event, "sequence_number": number}, kind=event["type"])
                number += 1

    def _pieces(self, asked: StreamChatRequest) -> AsyncGenerator[StreamChatResponse]:
        return self._peers.inference.stream(self._peers.chat.StreamChat, asked, self._seconds)
