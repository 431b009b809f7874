"""Keeps pinned models in memory, frees what nobody uses and keeps the files of the rest, round after round; run by `__main__`."""

import asyncio
import datetime
from collections.abc import Sequence
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
        """Until it is cancelled; what fails is logged and tried again in the next round."""
        while True:
            await self._round()
            await asyncio.sleep(self._round_seconds)

    async def _round(self) -> None:
        try:
            if self._pinned:
                await self._models.pin(self._pinned)
            if self._idle:
                await self._models.unload_idle(self._idle)
            await self._models.keep_files()
        except ServiceError as error:
            log.warning("upkeep.failed", reason=error.reason, message=error.message)
