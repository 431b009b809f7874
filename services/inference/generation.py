"""One answer from prompt to last word, as the engine's thread computes it; used by the model host."""

import dataclasses
import enum
import threading
import time
from collections.abc import Callable, Iterator

from services.common.errors import InvalidArgument, ServiceError, Violation
from services.common.rendering import RenderError
from services.inference.engine import Engine, GenerationRequest, Sampling
from services.inference.question import Question
from services.inference.registry import ReadyModel
from services.inference.text_stream import TextStream

Clock = Callable[[], float]


class FinishReason(enum.Enum):
    """Why an answer ended: the model or a stop text ended it, or there was no room left."""

    STOP = "stop"
    LENGTH = "length"


@dataclasses.dataclass(frozen=True, slots=True)
class Delta:
    """Text to append; never empty."""

    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Ending:
    """Last piece of an answer. Times in seconds since the request."""

    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    seconds_to_first_token: float
    total_seconds: float


Piece = Delta | Ending


@dataclasses.dataclass(frozen=True, slots=True)
class Watch:
    """When the request came, and whether anybody still waits for the answer."""

    cancelled: threading.Event
    started: float
    clock: Clock = time.monotonic

    def seconds(self) -> float:
        """Since the request."""
        return self.clock() - self.started


def answer(engine: Engine, model: ReadyModel, question: Question, sampling: Sampling, watch: Watch) -> Iterator[Piece]:
    """The pieces of an answer, an Ending last; ends without one, within a token, once `watch.cancelled` is set.

    Raises InvalidArgument (the template refuses the conversation, CONTEXT_LENGTH_EXCEEDED) and what the engine raises.
    """
    prompt = prompt_ids(model, question)
    room = min(question.max_tokens, model.context_length - len(prompt))
    request = GenerationRequest(model.base, model.adapter, prompt, room, sampling)
    progress = _Progress(TextStream(model.renderer.decode, question.stop), model.end_of_turn_ids)
    first = 0.0
    for token in engine.generate(request):
        first = first or watch.seconds()
        if watch.cancelled.is_set():
            return
        if text := progress.push(token):
            yield Delta(text)
        if progress.ended:
            break
    if text := progress.flush():
        yield Delta(text)
    yield Ending(progress.finish_reason, len(prompt), progress.count, first, watch.seconds())


def prompt_ids(model: ReadyModel, question: Question) -> tuple[int, ...]:
    """Token ids of the conversation; raises InvalidArgument, and CONTEXT_LENGTH_EXCEEDED when nothing could follow them."""
    messages = [{"role": message.role, "content": message.content} for message in question.messages]
    try:
        ids = model.renderer.prompt(messages)
    except RenderError as error:
        if error.reason == "DATASET_UNUSABLE":
            raise InvalidArgument(Violation("messages", error.message)) from error
        raise
    if len(ids) >= model.context_length:
        raise ServiceError(
            "CONTEXT_LENGTH_EXCEEDED",
            f"the conversation has {len(ids)} tokens, {model.base} attends to {model.context_length}",
            metadata={"prompt_tokens": str(len(ids)), "context_length": str(model.context_length)},
            violations=[Violation("messages", f"{len(ids)} tokens leave no room for an answer")],
        )
    return tuple(ids)


class _Progress:
    """How far an answer is: its text, its tokens, and whether it has come to its own end."""

    def __init__(self, text: TextStream, end_of_turn_ids: frozenset[int]) -> None:
        self._text = text
        self._end_of_turn_ids = end_of_turn_ids
        self._turn_ended = False
        self.count = 0

    @property
    def ended(self) -> bool:
        return self._turn_ended or self._text.stopped

    @property
    def finish_reason(self) -> FinishReason:
        return FinishReason.STOP if self.ended else FinishReason.LENGTH

    def push(self, token: int) -> str:
        if token in self._end_of_turn_ids:
            self._turn_ended = True
            return ""
        self.count += 1
        return self._text.push(token)

    def flush(self) -> str:
        return self._text.flush()
