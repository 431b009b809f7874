"""Asks inference, while a fine-tuning trains, to load the base model that its result will answer with; a loop of `__main__`.

So the first question waits for the adapter alone. It is a wish: what is not granted, or reaches nobody, is wished again, and
nothing waits for it.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from services.common.errors import ServiceError
from services.trainer.kinds.fine_tuning_ask import FineTuning
from services.trainer.run_directory import RunDirectory

log = structlog.get_logger()

_LOOK_SECONDS = 0.5
_AGAIN_SECONDS = 15.0


class Loading(Protocol):
    """Whom to ask; answering.inference.Inference is one."""

    async def load(self, model: str, *, ahead: bool) -> object:
        """Returns when it is loaded; raises ServiceError when it is not."""


class WarmInference:
    """Wishes are repeated until a run ends, however long it takes: inference unloads what nobody uses. `clock` in seconds."""

    def __init__(self, inference: Loading, clock: Callable[[], float] = time.monotonic) -> None:
        self._inference = inference
        self._clock = clock
        self._wished: dict[str, float] = {}
        self._outcomes: dict[str, str] = {}
        """Why a base model was not loaded the last time, empty = it was."""

    async def keep(self, active: Callable[[], Iterable[RunDirectory]]) -> None:
        """Until cancelled; `active` gives the runs that have not ended."""
        while True:
            await self.look(active())
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self, active: Iterable[RunDirectory]) -> None:
        """One look; never raises for what inference says."""
        for base in sorted({_base(run) for run in active} - {""}):
            if self._clock() - self._wished.get(base, -_AGAIN_SECONDS) >= _AGAIN_SECONDS:
                self._wished[base] = self._clock()
                await self._wish(base)

    async def _wish(self, base: str) -> None:
        outcome = ""
        try:
            await self._inference.load(base, ahead=True)
        except ServiceError as error:
            outcome = f"{error.reason}: {error.message}"
        if outcome != self._outcomes.get(base):
            log.info("inference.warm", base_model=base, refused=outcome)
        self._outcomes[base] = outcome


def _base(run: RunDirectory) -> str:
    """Of a run that trains; empty = there is none. Before its first step it needs the machine for itself, and then it has taken
    the memory that it will have."""
    ask = run.request.ask
    return ask.answering_base if isinstance(ask, FineTuning) and run.history().step else ""
