"""The models behind one asynchronous face: resolve a name, load it in the engine's thread, answer; used by the servicer."""

import asyncio
import contextlib
import dataclasses
import datetime
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TypeVar

from services.common.errors import InvalidArgument, ServiceError, Violation
from services.inference.generation import Answer, Piece, Watch
from services.inference.question import MAX_SEED, Question
from services.inference.ready_model import ReadyModel
from services.inference.registry import LoadedModel, NoRoom, Registry
from services.inference.request import judgement_for, request_for
from services.inference.resolver import ModelFiles, Resolver
from services.inference.scheduler import Scheduler
from services.inference.scoring import Judgement, Score
from services.inference.side_by_side import Failed, alone, side_by_side
from services.inference.worker import Worker

MAX_COMPARED = 8

T = TypeVar("T")


class ModelHost:
    """Everything the service can do, for at most `max_questions` questions at a time. `registry` is the worker's thread's."""

    def __init__(
        self,
        *,
        resolver: Resolver,
        worker: Worker,
        registry: Registry,
        scheduler: Scheduler,
        max_questions: int,
        new_seed: Callable[[], int],
    ) -> None:
        self._resolver = resolver
        self._worker = worker
        self._registry = registry
        self._scheduler = scheduler
        self._max_questions = max_questions
        self._new_seed = new_seed
        self._questions = 0
        self._pinned: dict[str, ModelFiles] = {}
        """What pinned names stood for when they were last found."""
        self._loading = asyncio.Lock()
        self._released = asyncio.Event()

    async def answer(self, question: Question, cancelled: threading.Event) -> AsyncIterator[Piece]:
        """The pieces of an answer, an Ending last; setting `cancelled` ends it within a token. Raises ServiceError."""
        watch = Watch(cancelled, time.monotonic())
        question.check()
        async with self._ready(question.model) as model:
            request = await self._worker.run(lambda: request_for(model, question, self._new_seed))
            answer = Answer(model, request, question, watch)
            seat = self._scheduler.enter(request, answer)
            try:
                async for piece in answer.pieces():
                    yield piece
            finally:
                self._scheduler.leave(seat)

    async def choices(self, question: Question, cancelled: threading.Event) -> AsyncIterator[tuple[int, Piece]]:
        """The `n` answers to a question, each with its own seed, as `answer` gives them; each piece with the answer's index."""
        question.check()
        seed = self._new_seed() if question.seed is None else question.seed
        questions = [dataclasses.replace(question, seed=(seed + index) % (MAX_SEED + 1)) for index in range(question.n)]
        async with contextlib.aclosing(side_by_side([self.answer(each, cancelled) for each in questions])) as pieces:
            async for piece in pieces:
                yield piece

    async def compare(
        self, models: Sequence[str], question: Question, cancelled: threading.Event
    ) -> AsyncIterator[tuple[int, Piece | Failed]]:
        """The answers of several models with the same seed, as `answer` gives them, each piece with the model's index.

        A model that fails has Failed for its last piece. Raises ServiceError before any piece, and after all of them, when every
        model has failed, what the first one has failed with.
        """
        if not 1 <= len(models) <= MAX_COMPARED:
            raise InvalidArgument(Violation("models", f"{len(models)} models are not between 1 and {MAX_COMPARED}"))
        question.check()
        seed = self._new_seed() if question.seed is None else question.seed
        questions = [dataclasses.replace(question, model=model, seed=seed) for model in models]
        failures: dict[int, Exception] = {}
        answers = [alone(self.answer(each, cancelled)) for each in questions]
        async with contextlib.aclosing(side_by_side(answers)) as pieces:
            async for index, piece in pieces:
                yield index, piece
                if isinstance(piece, Failed):
                    failures[index] = piece.error
        if len(failures) == len(models):
            raise failures[0]

    async def score(self, question: Question, cancelled: threading.Event) -> Score:
        """How probable the assistant's turns of a conversation are; raises ServiceError."""
        question.check_as_conversation()
        async with self._ready(question.model) as model:
            judged = await self._worker.run(lambda: judgement_for(model, question))
            judgement = Judgement(model, judged, cancelled)
            seat = self._scheduler.enter(judged.request, judgement)
            try:
                return await judgement.score()
            finally:
                self._scheduler.leave(seat)

    async def load(self, model: str, *, ahead: bool = False) -> LoadedModel:
        """The model in memory; `ahead` = only as Registry.load_ahead has it. Raises ServiceError."""
        if ahead and (name := await self._resolver.loaded_name(model)):
            # Gigabytes that are fetched for nothing take others out of the cache.
            self._registry.refuse_unfetched(name, await self._resolver.least_bytes(model))
        files = await self._resolver.files(model)
        load = self._registry.load_ahead if ahead else self._registry.load
        async with self._held(lambda _: load(files)) as loaded:
            return loaded

    async def pin(self, models: Sequence[str]) -> None:
        """Has exactly these models loaded and kept; one that is not found now stays what it was.

        Raises ServiceError, the first of all, once those that can be had are.
        """
        failures: list[ServiceError] = []
        for model in models:
            try:
                self._pinned[model] = await self._resolver.files(model)
            except ServiceError as error:
                failures.append(error)
        wanted = [self._pinned[model] for model in models if model in self._pinned]
        async with self._held(lambda _: self._registry.pin(wanted)):
            pass
        if failures:
            raise failures[0]

    async def unload_idle(self, longest: datetime.timedelta) -> None:
        """Frees what nobody has used for so long."""
        await self._worker.run(lambda: self._registry.unload_idle(longest))

    async def unload(self, model: str) -> None:
        """Frees a model; one that is not loaded is not an error. Raises ServiceError (MODEL_IN_USE)."""
        name = await self._resolver.loaded_name(model)
        if name is not None:
            await self._worker.run(lambda: self._registry.unload(name))

    async def keep_files(self) -> None:
        """The files of what is in memory stay in the cache: a new process of the engine reads them again."""
        await self._resolver.keep({loaded.directory for loaded in self.loaded()})

    def loaded(self) -> tuple[LoadedModel, ...]:
        """What is in memory, most recently used first."""
        return self._registry.snapshot

    @contextlib.asynccontextmanager
    async def _ready(self, model: str) -> AsyncIterator[ReadyModel]:
        """A place among the questions, and the model held for it."""
        with self._place():
            files = await self._resolver.files(model)
            async with self._held(lambda holder: self._registry.hold(holder, files)) as ready:
                yield ready

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        if self._questions >= self._max_questions:
            raise ServiceError("TOO_MANY_QUESTIONS", f"{self._questions} questions are being answered or wait already")
        self._questions += 1
        try:
            yield
        finally:
            self._questions -= 1

    @contextlib.asynccontextmanager
    async def _held(self, load: Callable[[object], T]) -> AsyncIterator[T]:
        """What `load` of the registry gives for a holder; nothing that it needs is unloaded within the block."""
        holder = object()
        try:
            # In the order asked: who waits for room is not overtaken by those who take it.
            async with self._loading:
                loaded = await self._once_there_is_room(lambda: load(holder))
            yield loaded
        finally:
            # After whatever is asked of the thread already: the load itself, and the engine's good-bye to a row.
            self._worker.post(lambda: self._registry.release(holder))
            self._released.set()

    async def _once_there_is_room(self, load: Callable[[], T]) -> T:
        while True:
            self._released.clear()
            try:
                return await self._worker.run(load)
            except NoRoom:
                await self._released.wait()
