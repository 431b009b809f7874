"""Who is in the running batch: requests take a seat in the order they came; used by the model host.

Lives on the event loop; the engine is touched in the worker's thread alone, one step of one base model at a time, so loading a
model and answers of other models find their place in between.
"""

import asyncio
import dataclasses
import itertools
from collections import deque
from collections.abc import Mapping
from typing import Protocol

import structlog

from services.common.errors import ServiceError
from services.inference.engine import Engine, GenerationRequest, Written
from services.inference.worker import Worker

log = structlog.get_logger()


class Reader(Protocol):
    """Who a request's tokens are for."""

    @property
    def gone(self) -> bool:
        """Whether nobody waits for tokens any more."""

    def take(self, token: Written) -> bool:
        """Gets the next token; True = it was the last one wanted."""

    def end(self, error: Exception | None) -> None:
        """Gets the reason why no more tokens come, though more were wanted; None = because it is gone."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What is worked on at once: rows, and tokens that the batch may have to keep when all rows are as long as the longest."""

    rows: int
    tokens: int


@dataclasses.dataclass(eq=False, slots=True)
class Seat:
    """A request's place among the waiting or the running ones."""

    ticket: int
    request: GenerationRequest
    reader: Reader

    @property
    def length(self) -> int:
        """Tokens it may come to."""
        return len(self.request.prompt) + self.request.max_tokens


class Scheduler:
    """First come, first served; every running request gets a token before any gets two."""

    def __init__(self, worker: Worker, engine: Engine, limits: Limits) -> None:
        self._worker = worker
        self._engine = engine
        self._limits = limits
        self._tickets = itertools.count(1)
        self._waiting: deque[Seat] = deque()
        self._running: dict[int, Seat] = {}
        self._rounds: asyncio.Task[None] | None = None

    def enter(self, request: GenerationRequest, reader: Reader) -> Seat:
        """Takes a seat at the end of the queue."""
        seat = Seat(next(self._tickets), request, reader)
        self._waiting.append(seat)
        if self._rounds is None or self._rounds.done():
            self._rounds = asyncio.create_task(self._run(), name="scheduler")
        return seat

    def leave(self, seat: Seat) -> None:
        """Gives a seat up, at any time and any number of times; the engine forgets it before it does anything else."""
        if seat in self._waiting:
            self._waiting.remove(seat)
        elif self._running.pop(seat.ticket, None):
            self._worker.post(lambda: self._engine.leave(seat.ticket))

    async def _run(self) -> None:
        while self._waiting or self._running:
            for seat in [seat for seat in (*self._waiting, *self._running.values()) if seat.reader.gone]:
                self._end(seat, None)
            entering = self._seated()
            for base in dict.fromkeys(seat.request.base for seat in self._running.values()):
                # Who has left while another model wrote must not be let in: nobody would take that row out again.
                present = [seat for seat in entering if seat.request.base == base and seat.ticket in self._running]
                await self._step(base, present)

    def _seated(self) -> list[Seat]:
        """Those who have a seat in the batch from now on. Nobody overtakes: a long one waits until there is room for it."""
        entering: list[Seat] = []
        while self._waiting and self._fits(self._waiting[0]):
            entering.append(self._waiting.popleft())
            self._running[entering[-1].ticket] = entering[-1]
        return entering

    def _fits(self, seat: Seat) -> bool:
        rows = [*self._running.values(), seat]
        tokens = len(rows) * max(row.length for row in rows)
        return len(rows) == 1 or (len(rows) <= self._limits.rows and tokens <= self._limits.tokens)

    async def _step(self, base: str, entering: list[Seat]) -> None:
        def work() -> Mapping[int, Written | Exception]:
            refused = {seat.ticket: error for seat in entering if (error := self._refusal(seat))}
            return {**refused, **self._engine.step(base)}

        try:
            outcomes = await self._worker.run(work)
        except Exception as error:
            log.exception("scheduler.step_failed", base=base)
            outcomes = {}
            for seat in [seat for seat in self._running.values() if seat.request.base == base]:
                self._end(seat, error)
        for ticket, outcome in outcomes.items():
            if ticket in self._running:
                self._hand_over(self._running[ticket], outcome)

    def _refusal(self, seat: Seat) -> Exception | None:
        """Why the engine does not take a request, which is its own affair unless the engine is gone; None = it does."""
        try:
            self._engine.admit(seat.ticket, seat.request)
        except Exception as error:
            if isinstance(error, ServiceError) and error.reason == "ENGINE_CRASHED":
                raise
            log.warning("scheduler.refused", base=seat.request.base, error=str(error))
            return error
        return None

    def _hand_over(self, seat: Seat, outcome: Written | Exception) -> None:
        if isinstance(outcome, Exception):
            self._end(seat, outcome)
            return
        try:
            if seat.reader.take(outcome):
                self.leave(seat)
        except Exception as error:
            log.exception("scheduler.reader_failed", base=seat.request.base)
            self._end(seat, error)

    def _end(self, seat: Seat, error: Exception | None) -> None:
        self.leave(seat)
        seat.reader.end(error)
