"""Keeps pinned models in memory, frees what nobody uses and keeps the files of the rest, round after round; run by `__main__`."""

import asyncio
import datetime
from collections.abc import Awaitable, Sequence
from typing import Protocol

import structlog

from services.common.errors import ServiceError

log = structlog.get_logger()

_ROUND_SECONDS = 60.0


class Models(Protocol):
    """What is kept up; host.ModelHost is one."""

    async def pin(self, models: Sequence[str]) -> None: ...

    async def unload_idle(self, longest: datetime.timedelta) -> None: ...

    async def keep_files(self) -> None: ...


class Upkeep:
    """`pinned` are names as in requests, resolved anew every round: an alias may move, a task may succeed. `idle` 0 = never."""

    def __init__(
        self, models: Models, pinned: Sequence[str], idle: datetime.timedelta, *, round_seconds: float = _ROUND_SECONDS
    ) -> None:
        self._models = models
        self._pinned = pinned
        self._idle = idle
        self._round_seconds = round_seconds

    async def run(self) -> None:
        """Until it is cancelled; what fails is logged, stops nothing else, and is tried again in the next round."""
        while True:
            await self._round()
            await asyncio.sleep(self._round_seconds)

    async def _round(self) -> None:
        if self._pinned:
            await _logged(self._models.pin(self._pinned))
        if self._idle:
            await _logged(self._models.unload_idle(self._idle))
        await _logged(self._models.keep_files())


async def _logged(work: Awaitable[None]) -> None:
    try:
        await work
    except ServiceError as error:
        log.warning("upkeep.failed", reason=error.reason, message=error.message)
    except Exception:
        # Whoever asks models something is none the worse for it.
        log.exception("upkeep.crashed")
