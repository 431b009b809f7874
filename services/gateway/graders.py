"""/v1/fine_tuning/alpha/graders: a grader is tried on one answer, or only checked. Nothing is kept."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.common.catalogue import ErrorClass
from services.common.errors import ServiceError
from services.common.grading import template
from services.common.grading.graders import Grader, ScoreModel, asking
from services.common.grading.template import MissingReference
from services.gateway import bodies, grader_request
from services.gateway.asking import Asking
from services.gateway.grading import Grade, Opinion
from services.gateway.presence import while_connected
from tunesmith.v1.inference_service_pb2 import ChatMessage, ChatRequest, ResponseFormat

Values = Mapping[str, Any]


class Graders(Asking):
    """The resource. Models are asked at temperature 0, one after the other."""

    async def validate(self, request: Request) -> Response:
        """POST: the grader as it was given; 400 naming what makes no sense. Whether its models exist is not asked."""
        body = await bodies.read_json(request, self._max_body)
        grader_request.grader(body)
        return JSONResponse({"grader": body["grader"]})

    async def run(self, request: Request) -> Response:
        """POST: the number, and what went wrong on the way."""
        body = await bodies.read_json(request, self._max_body)
        request.state.ignored_parameters = grader_request.ignored(body)
        asked, values = grader_request.grader(body), grader_request.values(body)
        grader_request.refuse_long(asked, values)
        begun = time.monotonic()
        grade = await while_connected(request, self._grade(asked, values))
        return JSONResponse(grade.answer(body["grader"], time.monotonic() - begun))

    async def _grade(self, asked: Grader, values: Values) -> Grade:
        opinions: dict[ScoreModel, Opinion | MissingReference] = {}
        for judge in asking((asked,)):
            try:
                opinions[judge] = await self._opinion(_question(judge, values))
            except MissingReference as error:
                opinions[judge] = error
        # Long texts take a while to compare, and others are to be answered meanwhile.
        return await asyncio.to_thread(Grade, asked, values, opinions)

    async def _opinion(self, question: ChatRequest) -> Opinion:
        """Raises ServiceError when the question itself is wrong, for example because there is no such model."""
        try:
            question.model = await self._names.model(question.model)
            answer = await self._peers.inference.call(self._peers.chat.Chat, question, self._seconds)
        except ServiceError as error:
            if error.error_class is ErrorClass.USER:
                raise
            return Opinion(problem=f"{error.reason}: {error.message}")
        usage = answer.usage
        return Opinion(answer.message.content, usage.prompt_tokens + usage.completion_tokens)


def _question(judge: ScoreModel, values: Values) -> ChatRequest:
    """Raises MissingReference."""
    turns = [ChatMessage(role=turn.role, content=template.render(turn.content, values)) for turn in judge.input]
    form = ResponseFormat(regex=judge.answer_regex) if judge.labels else None
    return ChatRequest(model=judge.model, messages=turns, max_tokens=judge.max_tokens, temperature=0, response_format=form)
