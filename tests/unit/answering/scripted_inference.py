"""An inference service of which only the wire is real; for tests of what asks it."""

import asyncio
from typing import Any

from services.common.errors import InvalidArgument, ServiceError, Violation
from tunesmith.v1 import inference_service_pb2 as pb2
from tunesmith.v1 import inference_service_pb2_grpc


class Service(inference_service_pb2_grpc.InferenceServiceServicer):
    """Repeats the question and calls every tool that it offers. Waits for ever with the questions from number `held` on."""

    def __init__(self) -> None:
        self.asked: list[pb2.ChatRequest] = []
        self.judged: list[pb2.ScoreChatRequest] = []
        self.completed: list[pb2.Completion] = []
        self.held = 10**9
        self.waiting = asyncio.Event()

    async def LoadModel(self, request: pb2.LoadModelRequest, context: Any) -> pb2.LoadedModel:
        return pb2.LoadedModel(model=f"baseModels/{request.model}")

    async def ScoreChat(self, request: pb2.ScoreChatRequest, context: Any) -> pb2.ScoreChatResponse:
        self.judged.append(request)
        tokens = [pb2.TokenLogprob(token=token, logprob=-1.5) for token in ("y", "<end>")]
        return pb2.ScoreChatResponse(tokens=tokens, total_logprob=-3.0, loss=1.5)

    async def Complete(self, request: pb2.CompleteRequest, context: Any) -> pb2.CompleteResponse:
        self.completed.append(request.completion)
        words = request.completion.text.split()
        tokens = [pb2.TokenLogprob(token=word, logprob=-0.5 * place if place else None) for place, word in enumerate(words)]
        return pb2.CompleteResponse(choices=[pb2.CompletionChoice(text=request.completion.text, logprobs=tokens)])

    async def Chat(self, request: pb2.ChatRequest, context: Any) -> pb2.ChatResponse:
        text = request.messages[-1].content
        if text == "too long":
            raise InvalidArgument(Violation("messages", "too long"), reason="CONTEXT_LENGTH_EXCEEDED")
        if text == "no tools":
            raise ServiceError("TOOLS_UNSUPPORTED", "tools: the chat template of tiny does not show tools to the model")
        if len(self.asked) >= self.held:
            self.waiting.set()
            await asyncio.Event().wait()
        self.asked.append(request)
        calls = [pb2.ToolCall(id="call_1", name=tool.name, arguments='{"n": 1}') for tool in request.tools]
        answer = pb2.ChatMessage(role="assistant", content=f"re: {text}", tool_calls=calls)
        reason = pb2.FINISH_REASON_TOOL_CALLS if calls else pb2.FINISH_REASON_LENGTH
        response = pb2.ChatResponse(message=answer, finish_reason=reason)
        response.usage.prompt_tokens, response.usage.completion_tokens = 4, 7
        response.usage.total_time.FromMilliseconds(1500)
        return response
