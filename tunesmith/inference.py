"""Verbs on everything that can answer: conversations, texts, and how probable they are; part of `tunesmith.Client`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunesmith.connection import CHAT_SECONDS, Connections
from tunesmith.names import model_name
from tunesmith.v1.inference_service_pb2 import (
    ChatMessage,
    ChatRequest,
    ChatResponse,
    CompareChatRequest,
    CompareChatResponse,
    CompleteRequest,
    CompleteResponse,
    Completion,
    ScoreChatRequest,
    ScoreChatResponse,
    StreamChatRequest,
    StreamChatResponse,
    StreamCompleteRequest,
    StreamCompleteResponse,
    TokenIds,
    Tool,
)
from tunesmith.v1.inference_service_pb2_grpc import InferenceServiceStub

Messages = str | Sequence[ChatMessage | Mapping[str, Any]]
"""The user's words, or a conversation: messages or `{"role": …, "content": …}`, oldest first."""
Prompt = str | Sequence[int]
"""A text, or the ids of its tokens."""


class InferenceVerbs(Connections):
    """Answers of base models, tasks, checkpoints, artifacts and registered models, named as `names.model_name` says."""

    def chat(self, model: str, messages: Messages, system: str | None = None, **sampling: Any) -> ChatResponse:
        """A whole answer. `sampling`: the further fields of ChatRequest, as temperature, max_tokens, stop or logit_bias."""
        request = ChatRequest(model=model_name(model), messages=conversation(messages, system), **_given(sampling))
        return self.connection("inference").call(self._inference.Chat, request, CHAT_SECONDS)

    def stream_chat(
        self, model: str, messages: Messages, system: str | None = None, **sampling: Any
    ) -> Iterator[StreamChatResponse]:
        """An answer as it is written; closing the iterator ends the generation. `sampling` as in `chat`."""
        request = StreamChatRequest(model=model_name(model), messages=conversation(messages, system), **_given(sampling))
        return self.connection("inference").stream(self._inference.StreamChat, request, CHAT_SECONDS)

    def compare_chat(
        self, models: Sequence[str], messages: Messages, system: str | None = None, **sampling: Any
    ) -> Iterator[CompareChatResponse]:
        """The answers of several models at the same time; closing the iterator ends all. `sampling` as in `chat`.

        A model that fails has `error` in its last message, and the others go on.

        >>> answers = ["", ""]
        >>> for part in client.compare_chat(["smollm2-135m-instruct", "tasks/1"], "where is my parcel?"):
        ...     answers[part.index] += part.error.message or part.delta
        >>> all(answers)
        True

        Raises:
            InvalidArgument: before any message. TunesmithError: what the first model has failed with, when all have.
        """
        names = [model_name(model) for model in models]
        request = CompareChatRequest(models=names, messages=conversation(messages, system), **_given(sampling))
        return self.connection("inference").stream(self._inference.CompareChat, request, CHAT_SECONDS)

    def complete(self, model: str, prompt: Prompt, **sampling: Any) -> CompleteResponse:
        """What follows a text, without a chat template. `sampling`: the further fields of Completion, as max_tokens, n or stop.

        With `echo`, `logprobs` and `max_tokens=0` nothing is written and the text itself is judged.

        >>> found = client.complete("smollm2-135m-instruct", "Once upon", max_tokens=8, n=2)
        >>> [choice.index for choice in found.choices]
        [0, 1]
        """
        request = CompleteRequest(completion=_completion(model, prompt, sampling))
        return self.connection("inference").call(self._inference.Complete, request, CHAT_SECONDS)

    def stream_complete(self, model: str, prompt: Prompt, **sampling: Any) -> Iterator[StreamCompleteResponse]:
        """What follows a text as it is written; closing the iterator ends the generation. `sampling` as in `complete`.

        >>> pieces = client.stream_complete("smollm2-135m-instruct", "Once upon", echo=True)
        >>> "".join(piece.text for piece in pieces).startswith("Once upon")
        True
        """
        request = StreamCompleteRequest(completion=_completion(model, prompt, sampling))
        return self.connection("inference").stream(self._inference.StreamComplete, request, CHAT_SECONDS)

    def score_chat(
        self, model: str, messages: Messages, *, tools: Sequence[Tool | Mapping[str, Any]] = (), top_logprobs: int = 0
    ) -> ScoreChatResponse:
        """How probable the assistant's turns of a conversation are: the numbers that training makes its loss of, in nats.

        A turn with `weight` 0 is left out, as in training; `math.exp(found.loss)` is the perplexity of the others.

        >>> turns = [{"role": "user", "content": "where is my parcel?"}, {"role": "assistant", "content": "delivery"}]
        >>> found = client.score_chat("smollm2-135m-instruct", turns)
        >>> math.isclose(found.loss, -found.total_logprob / len(found.tokens))
        True

        Raises:
            InvalidArgument: no turn is the assistant's. TunesmithError: CONTEXT_LENGTH_EXCEEDED, TOOLS_UNSUPPORTED.
        """
        request = ScoreChatRequest(
            model=model_name(model),
            messages=conversation(messages),
            tools=[each if isinstance(each, Tool) else Tool(**each) for each in tools],
            top_logprobs=top_logprobs,
        )
        return self.connection("inference").call(self._inference.ScoreChat, request, CHAT_SECONDS)

    @property
    def _inference(self) -> InferenceServiceStub:
        return self.connection("inference").stub(InferenceServiceStub)


def conversation(messages: Messages, system: str | None = None) -> list[ChatMessage]:
    """Messages in any accepted form as the contract's, the system message first."""
    turns: Sequence[ChatMessage | Mapping[str, Any]] = (
        [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
    )
    start = [ChatMessage(role="system", content=system)] if system else []
    return start + [turn if isinstance(turn, ChatMessage) else ChatMessage(**turn) for turn in turns]


def _completion(model: str, prompt: Prompt, sampling: Mapping[str, Any]) -> Completion:
    completion = Completion(model=model_name(model), **_given(sampling))
    if isinstance(prompt, str):
        completion.text = prompt
    else:
        completion.token_ids.CopyFrom(TokenIds(ids=prompt))
    return completion


def _given(sampling: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in sampling.items() if value is not None}
