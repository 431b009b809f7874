"""/v1/completions: texts continued as they stand, whole or as they are written."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.gateway import bodies, completion_request, sse
from services.gateway.asking import Asking
from services.gateway.bodies import optional
from services.gateway.chat_request import includes_usage
from services.gateway.completion_conversion import Text, TextAnswer
from services.gateway.completion_request import Question
from services.gateway.presence import while_connected
from tunesmith.v1.inference_service_pb2 import ChatUsage, Completion, StreamCompleteRequest, StreamCompleteResponse

# Inference continues so many together by default; more would only wait there.
_AT_ONCE = 8


class Completions(Asking):
    """The resource. Whoever goes away ends the generation: closing the streams cancels the calls."""

    async def create(self, request: Request) -> Response:
        """POST; with `stream` as server-sent events, one prompt after the other."""
        body = await bodies.read_json(request, self._max_body)
        request.state.ignored_parameters = completion_request.ignored(body)
        asked, with_usage = completion_request.question(body), includes_usage(body)
        await self._name_the_model(asked)
        logprobs = asked.completions[0].logprobs
        answer = TextAnswer(f"cmpl-{uuid.uuid4().hex}", body["model"], int(time.time()), logprobs)
        if optional(body, "stream", bool):
            return await sse.respond(request, self._stream(asked, answer, with_usage=with_usage))
        return JSONResponse(await while_connected(request, self._whole(asked, answer)))

    async def _name_the_model(self, asked: Question) -> None:
        model = await self._names.model(asked.completions[0].model)
        for completion in asked.completions:
            completion.model = model

    async def _whole(self, asked: Question, answer: TextAnswer) -> dict[str, Any]:
        texts = [Text(index) for index in range(len(asked.completions) * asked.n)]
        usage, room = ChatUsage(), asyncio.Semaphore(_AT_ONCE)

        async def write(number: int, completion: Completion) -> None:
            async with room, contextlib.aclosing(self._pieces(completion)) as stream:
                async for piece in stream:
                    texts[number * asked.n + piece.index].add(piece)
                    _count(usage, piece)

        await _all(write(number, completion) for number, completion in enumerate(asked.completions))
        return answer.whole(texts, usage)

    async def _stream(self, asked: Question, answer: TextAnswer, *, with_usage: bool) -> AsyncGenerator[str]:
        usage = ChatUsage()
        for number, completion in enumerate(asked.completions):
            texts = [Text(number * asked.n + index) for index in range(asked.n)]
            async with contextlib.aclosing(self._pieces(completion)) as stream:
                async for piece in stream:
                    _count(usage, piece)
                    if piece.text or piece.logprobs or piece.finish_reason:
                        choice = texts[piece.index].piece(piece, answer.with_logprobs)
                        yield sse.event(answer.piece(choice, with_usage=with_usage))
        if with_usage:
            yield sse.event(answer.usage(usage))
        yield sse.DONE

    def _pieces(self, completion: Completion) -> AsyncGenerator[StreamCompleteResponse]:
        asked = StreamCompleteRequest(completion=completion)
        return self._peers.inference.stream(self._peers.chat.StreamComplete, asked, self._seconds)


async def _all(work: Any) -> None:
    """Runs everything at the same time; the first failure ends the rest and is raised as it is."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _count(usage: ChatUsage, piece: StreamCompleteResponse) -> None:
    usage.prompt_tokens += piece.usage.prompt_tokens
    usage.completion_tokens += piece.usage.completion_tokens
