"""InferenceService over gRPC; the edge of the service, registered by `__main__`."""

import threading
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import empty_pb2

from services.inference import answers, conversion
from services.inference.host import ModelHost
from tunesmith.v1 import inference_service_pb2 as pb2
from tunesmith.v1 import inference_service_pb2_grpc

# ruff: noqa: N802 (the names of methods are the contract's)

Context = grpc.aio.ServicerContext[Any, Any]


class InferenceServicer(inference_service_pb2_grpc.InferenceServiceServicer):
    """See inference_service.proto."""

    def __init__(self, host: ModelHost) -> None:
        self._host = host

    async def Chat(self, request: pb2.ChatRequest, context: Context) -> pb2.ChatResponse:
        """Answers whole."""
        question = conversion.chat_question(request)
        pieces = [piece async for piece in self._host.choices(question, _ended(context))]
        return answers.chat_response(request.model, pieces, question.n)

    async def StreamChat(self, request: pb2.StreamChatRequest, context: Context) -> AsyncIterator[pb2.StreamChatResponse]:
        """Answers as it is written."""
        question = conversion.chat_question(request)
        endings = answers.Endings(question.n)
        async for index, piece in self._host.choices(question, _ended(context)):
            yield answers.stream_response(index, piece, endings)

    async def CompareChat(self, request: pb2.CompareChatRequest, context: Context) -> AsyncIterator[pb2.CompareChatResponse]:
        """Answers with several models as they write."""
        async for index, piece in self._host.compare(request.models, conversion.chat_question(request), _ended(context)):
            yield answers.compare_response(index, piece)

    async def Complete(self, request: pb2.CompleteRequest, context: Context) -> pb2.CompleteResponse:
        """Continues a text, whole."""
        question = conversion.completion_question(request.completion)
        pieces = [piece async for piece in self._host.choices(question, _ended(context))]
        return answers.complete_response(request.completion.model, pieces, question.n)

    async def StreamComplete(
        self, request: pb2.StreamCompleteRequest, context: Context
    ) -> AsyncIterator[pb2.StreamCompleteResponse]:
        """Continues a text as it is written."""
        question = conversion.completion_question(request.completion)
        endings = answers.Endings(question.n)
        async for index, piece in self._host.choices(question, _ended(context)):
            yield answers.stream_complete_response(index, piece, endings)

    async def ScoreChat(self, request: pb2.ScoreChatRequest, context: Context) -> pb2.ScoreChatResponse:
        """Judges a conversation."""
        score = await self._host.score(conversion.scored_question(request), _ended(context))
        return answers.score_response(request.model, score)

    async def LoadModel(self, request: pb2.LoadModelRequest, context: Context) -> pb2.LoadedModel:
        """Loads before use."""
        return answers.loaded_model(await self._host.load(request.model, ahead=request.ahead))

    async def UnloadModel(self, request: pb2.UnloadModelRequest, context: Context) -> empty_pb2.Empty:
        """Frees memory."""
        await self._host.unload(request.model)
        return empty_pb2.Empty()

    async def ListLoadedModels(self, request: pb2.ListLoadedModelsRequest, context: Context) -> pb2.ListLoadedModelsResponse:
        """Tells what is in memory."""
        return pb2.ListLoadedModelsResponse(models=[answers.loaded_model(loaded) for loaded in self._host.loaded()])


def _ended(context: Context) -> threading.Event:
    """An event that is set once the call is over, whoever ended it: the client, its deadline or the server."""
    ended = threading.Event()
    # The stubs ask for an instance of a class of theirs where gRPC takes any callable.
    context.add_done_callback(lambda _: ended.set())  # type: ignore[arg-type]
    return ended
