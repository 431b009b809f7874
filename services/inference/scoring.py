"""How probable a given conversation is to a model; used by the model host."""

import asyncio
import dataclasses
import threading

from services.inference.engine import Written
from services.inference.ready_model import ReadyModel
from services.inference.request import Judged
from services.inference.told import Told, told


@dataclasses.dataclass(frozen=True, slots=True)
class Score:
    """The tokens that training learns, in order, and the length of the whole conversation in tokens."""

    tokens: tuple[Told, ...]
    conversation_tokens: int

    @property
    def total(self) -> float:
        """Sum of the log-probabilities, in nats."""
        return sum(token.logprob or 0.0 for token in self.tokens)

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood: what training computes of the row alone."""
        return -self.total / len(self.tokens)


class Judgement:
    """Waits for the judgement of one conversation: a Reader of the scheduler."""

    def __init__(self, model: ReadyModel, judged: Judged, cancelled: threading.Event) -> None:
        self._model = model
        self._judged = judged
        self._cancelled = cancelled
        self._score: asyncio.Future[Score | None] = asyncio.get_running_loop().create_future()

    @property
    def gone(self) -> bool:
        """See Reader."""
        return self._cancelled.is_set()

    def take(self, token: Written) -> bool:
        """See Reader."""
        first = self._judged.request.judged_from or 0
        learned = zip(token.prompt, self._judged.learned[first:], strict=True)
        tokens = tuple(told(each, self._model.vocabulary) for each, is_learned in learned if is_learned)
        self._resolve(Score(tokens, len(self._judged.learned)))
        return True

    def end(self, error: Exception | None) -> None:
        """See Reader."""
        if error and not self._score.done():
            self._score.set_exception(error)
        self._resolve(None)

    async def score(self) -> Score:
        """The judgement; raises what the request failed with, and CancelledError when nobody waits any more."""
        score = await self._score
        if score is None:
            raise asyncio.CancelledError
        return score

    def _resolve(self, score: Score | None) -> None:
        if not self._score.done():
            self._score.set_result(score)
