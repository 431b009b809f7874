"""The models behind one asynchronous face: resolve a name, load it in the engine's thread, answer; used by the servicer."""

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

from services.inference import generation
from services.inference.engine import Engine, Sampling
from services.inference.generation import Piece, Watch
from services.inference.question import Question
from services.inference.registry import LoadedModel, Registry
from services.inference.resolver import Resolver
from services.inference.worker import Worker


class ModelHost:
    """Everything the service can do. `engine` and `registry` are only touched in the worker's thread."""

    def __init__(
        self, *, resolver: Resolver, worker: Worker, engine: Engine, registry: Registry, new_seed: Callable[[], int]
    ) -> None:
        self._resolver = resolver
        self._worker = worker
        self._engine = engine
        self._registry = registry
        self._new_seed = new_seed

    async def answer(self, question: Question, cancelled: threading.Event) -> AsyncIterator[Piece]:
        """The pieces of an answer, an Ending last; setting `cancelled` ends it within a token. Raises ServiceError."""
        watch = Watch(cancelled, time.monotonic())
        question.check()
        files = await self._resolver.files(question.model)
        seed = self._new_seed() if question.seed is None else question.seed
        sampling = Sampling(question.temperature, question.top_p, seed)

        # One piece of work from loading to the last token: nothing can unload the model in between.
        def pieces() -> Iterator[Piece]:
            if not cancelled.is_set():
                yield from generation.answer(self._engine, self._registry.use(files), question, sampling, watch)

        async for piece in self._worker.iterate(pieces, cancelled):
            yield piece

    async def load(self, model: str) -> LoadedModel:
        """The model in memory; raises ServiceError."""
        files = await self._resolver.files(model)
        return await self._worker.run(lambda: self._registry.load(files))

    async def unload(self, model: str) -> None:
        """Frees a model; one that is not loaded is not an error."""
        name = await self._resolver.loaded_name(model)
        if name is not None:
            await self._worker.run(lambda: self._registry.unload(name))

    def loaded(self) -> tuple[LoadedModel, ...]:
        """What is in memory, most recently used first."""
        return self._registry.snapshot
