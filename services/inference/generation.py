"""One answer from prompt to last word; used by the model host."""

import asyncio
import dataclasses
import enum
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence

from services.common.errors import InvalidArgument, ServiceError, Violation
from services.common.rendering import RenderError
from services.inference.engine import GenerationRequest
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


class Answer:
    """The tokens of one request as pieces of text, in the order they come: the scheduler's Reader."""

    def __init__(self, model: ReadyModel, request: GenerationRequest, stop: Sequence[str], watch: Watch) -> None:
        self._request = request
        self._watch = watch
        self._progress = _Progress(TextStream(model.renderer.decode, stop), model.end_of_turn_ids)
        self._tokens = 0
        self._seconds_to_first_token = 0.0
        self._pieces: asyncio.Queue[Piece | Exception | None] = asyncio.Queue()

    @property
    def gone(self) -> bool:
        """See Reader."""
        return self._watch.cancelled.is_set()

    def take(self, token: int) -> bool:
        """See Reader."""
        self._seconds_to_first_token = self._seconds_to_first_token or self._watch.seconds()
        self._tokens += 1
        self._say(self._progress.push(token))
        if not self._progress.ended and self._tokens < self._request.max_tokens:
            return False
        self._say(self._progress.flush())
        self._pieces.put_nowait(self._ending())
        return True

    def end(self, error: Exception | None) -> None:
        """See Reader."""
        self._pieces.put_nowait(error)

    async def pieces(self) -> AsyncIterator[Piece]:
        """The pieces as they come, an Ending last unless nobody waits any more; raises what the request failed with."""
        while (piece := await self._pieces.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece
            if isinstance(piece, Ending):
                return

    def _say(self, text: str) -> None:
        if text:
            self._pieces.put_nowait(Delta(text))

    def _ending(self) -> Ending:
        return Ending(
            self._progress.finish_reason,
            len(self._request.prompt),
            self._progress.count,
            self._seconds_to_first_token,
            self._watch.seconds(),
        )


def request_for(model: ReadyModel, question: Question, new_seed: Callable[[], int]) -> GenerationRequest:
    """What the engine is asked; a question without a seed gets a new one.

    Raises InvalidArgument (the template refuses the conversation, a token that does not exist, CONTEXT_LENGTH_EXCEEDED).
    """
    tokens = f"a token of {model.base}: 0 to {model.vocabulary_size - 1}"
    strange = [token for token, _ in question.logit_bias if not 0 <= token < model.vocabulary_size]
    if strange:
        raise InvalidArgument(*(Violation(f"logit_bias[{token}]", f"is not {tokens}") for token in strange))
    prompt = prompt_ids(model, question)
    room = min(question.max_tokens, model.context_length - len(prompt))
    seed = new_seed() if question.seed is None else question.seed
    return GenerationRequest(model.base, model.adapter, prompt, room, question.sampling(seed))


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
