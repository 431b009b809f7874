"""Many questions at once, each until it has an answer or never will; used by both kinds of runs."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator

from services.common.blocking import in_thread
from services.common.catalogue import ErrorClass
from services.common.errors import ServiceError
from services.common.grading.sampling import Sampling
from services.trainer.answering.answer_file import AnswerFile
from services.trainer.answering.inference import Models, Question
from services.trainer.evaluating.values import Answer

_log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0
_MOST_TRIES = 3
_SECONDS_BETWEEN_NOTES = 60.0


Ask = Callable[[Question], Awaitable[Answer]]


class Asker:
    """Asks `at_once` questions at the same time, so that they are answered in one batch. `clock` is monotonic."""

    def __init__(self, models: Models, *, at_once: int, clock: Callable[[], float]) -> None:
        self._models = models
        self._at_once = at_once
        self._clock = clock
        self._noted = -_SECONDS_BETWEEN_NOTES

    async def load(self, model: str) -> str:
        """Waits for the inference service as long as it takes; raises what cannot be helped by waiting."""
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self._models.load(model)
            except ServiceError as error:
                if error.error_class is not ErrorClass.TRANSIENT:
                    raise
                self._note(error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def answer(
        self, model: str, questions: Iterable[Question], answers: AnswerFile, sampling: Sampling, tell: Callable[[], None]
    ) -> None:
        """Until every question has its line in `answers`; calls `tell` after each. Those that have one are not asked again.

        Raises the first ServiceError that concerns more than a row, and OSError.
        """
        await self._all(lambda each: self._models.ask(model, each, sampling), questions, answers, tell)

    async def judge(self, model: str, questions: Iterable[Question], answers: AnswerFile, tell: Callable[[], None]) -> None:
        """As `answer`, but how probable the last turn of each question is, which is the known answer."""
        await self._all(lambda each: self._models.judge(model, each), questions, answers, tell)

    async def _all(self, ask: Ask, questions: Iterable[Question], answers: AnswerFile, tell: Callable[[], None]) -> None:
        waiting = (question for question in questions if question.row not in answers)

        async def work() -> None:
            for question in waiting:
                answer = await self._patiently(ask, question)
                await in_thread(answers.append, answer)
                tell()

        with _first_of_group():
            async with asyncio.TaskGroup() as group:
                for _ in range(self._at_once):
                    group.create_task(work())

    async def _patiently(self, ask: Ask, question: Question) -> Answer:
        pause, tries = _FIRST_PAUSE, 0
        while True:
            try:
                return await ask(question)
            except ServiceError as error:
                # Whether a model takes tools is asked only where a row has some.
                if error.status == "INVALID_ARGUMENT" or error.reason == "TOOLS_UNSUPPORTED":
                    return Answer(question.row, reason=error.reason, message=error.message)
                if error.error_class is ErrorClass.USER:
                    # The model is gone, or asking is not permitted: every other row would say the same.
                    raise
                tries += error.error_class is ErrorClass.PLATFORM
                if tries >= _MOST_TRIES:
                    return Answer(question.row, reason=error.reason, message=error.message)
                self._note(error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _note(self, error: ServiceError) -> None:
        if self._clock() - self._noted >= _SECONDS_BETWEEN_NOTES:
            self._noted = self._clock()
            _log.warning("%s; trying again until it works", error.message)


@contextlib.contextmanager
def _first_of_group() -> Iterator[None]:
    """The first failure of a group instead of the group."""
    try:
        yield
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
