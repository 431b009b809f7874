"""Connections that are too many, or send their request slowly or not at all, are closed; given to uvicorn by `__main__`."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def patient_for(seconds: float, max_connections: int) -> type[H11Protocol]:
    """A protocol that closes a connection `seconds` after it began to wait for the head of a request that did not come."""
    return type("PatientProtocol", (_Limited,), {"seconds": seconds, "max_connections": max_connections})


class _Limited(H11Protocol):
    """uvicorn limits the time between requests, but not the time a head takes; and requests, but not idle connections."""

    seconds: float
    max_connections: int
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.abort()
            return
        self._await_head()

    def data_received(self, data: bytes) -> None:
        if not self._answers and self._head_timer is None:
            self._await_head()
        super().data_received(data)
        if self._answers:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    @property
    def _answers(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
