"""One answer from first token to last word; used by the model host."""

import asyncio
import dataclasses
import enum
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence

from services.inference.engine import GenerationRequest, Written
from services.inference.question import Question
from services.inference.ready_model import ReadyModel
from services.inference.text_stream import TextStream
from services.inference.told import Told, told
from services.inference.tool_text import ToolCallReader
from services.inference.tools import ToolCall

Clock = Callable[[], float]

_CONTEXT = 6
"""Tokens of a text that is continued which may change how the next one is written."""


class FinishReason(enum.Enum):
    """Why an answer ended: the model or a stop text ended it, there was no room left, or tools are to be called."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


@dataclasses.dataclass(frozen=True, slots=True)
class Delta:
    """What to append; never all empty. `tokens` are those written since the last piece, if they were asked for."""

    text: str = ""
    tokens: tuple[Told, ...] = ()
    calls: tuple[ToolCall, ...] = ()


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

    def __init__(self, model: ReadyModel, request: GenerationRequest, question: Question, watch: Watch) -> None:
        self._model = model
        self._request = request
        self._question = question
        self._watch = watch
        self._progress = _Progress(model, question, request.prompt[-_CONTEXT:] if question.given else ())
        self._tokens = 0
        self._seconds_to_first_token = 0.0
        self._pieces: asyncio.Queue[Piece | Exception | None] = asyncio.Queue()

    @property
    def gone(self) -> bool:
        """See Reader."""
        return self._watch.cancelled.is_set()

    def take(self, token: Written) -> bool:
        """See Reader."""
        if not self._tokens:
            self._seconds_to_first_token = self._watch.seconds()
            self._echo(token)
        self._tokens += 1
        # Nothing was to be written: the token came along with the judgement of the prompt.
        if self._question.max_tokens:
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

    def _echo(self, first: Written) -> None:
        given = self._question.given
        if given and given.echo:
            text = given.text or self._model.renderer.decode(given.ids, skip_special_tokens=False)
            self._say(Delta(text, tuple(told(token, self._model.vocabulary) for token in first.prompt)))

    def _say(self, delta: Delta) -> None:
        if delta != Delta():
            self._pieces.put_nowait(delta)

    def _ending(self) -> Ending:
        return Ending(
            self._progress.finish_reason,
            len(self._request.prompt),
            self._progress.count,
            self._seconds_to_first_token,
            self._watch.seconds(),
        )


class _Progress:
    """How far an answer is: its text, its calls, its tokens, and whether it has come to its own end."""

    def __init__(self, model: ReadyModel, question: Question, before: Sequence[int]) -> None:
        self._model = model
        self._tells = question.logprobs is not None
        self._calls = ToolCallReader() if question.offered else None
        self._text = TextStream(self._decoded, question.stop, before=before)
        self._turn_ended = False
        self.count = 0

    @property
    def ended(self) -> bool:
        return self._turn_ended or self._text.stopped

    @property
    def finish_reason(self) -> FinishReason:
        if not self.ended:
            return FinishReason.LENGTH
        return FinishReason.TOOL_CALLS if self._calls and self._calls.has_called else FinishReason.STOP

    def _decoded(self, ids: Sequence[int]) -> str:
        # The marks of calls are special tokens of some models.
        return self._model.renderer.decode(ids, skip_special_tokens=not self._calls)

    def push(self, token: Written) -> Delta:
        if token.id in self._model.end_of_turn_ids:
            self._turn_ended = True
            return Delta()
        self.count += 1
        tokens = (told(token, self._model.vocabulary),) if self._tells else ()
        return self._delta(self._text.push(token.id), tokens)

    def flush(self) -> Delta:
        last = self._delta(self._text.flush())
        return Delta(last.text + self._calls.flush(), calls=last.calls) if self._calls else last

    def _delta(self, text: str, tokens: tuple[Told, ...] = ()) -> Delta:
        shown, calls = self._calls.push(text) if self._calls else (text, ())
        return Delta(shown, tokens, calls)
