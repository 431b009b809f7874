"""Readers that come, go and come back at random cursors, and the model that judges all that they were sent."""

import asyncio
import contextlib
import dataclasses
import random
from typing import Any

import grpc
from filtered_stream_model import LOGS, METRICS, Flavour, judge
from stream_model import StreamModel

from tests.faults.world import World, deadline
from tunesmith.v1 import task_manager_service_pb2 as api

_FLAVOURS: dict[str, tuple[type[Any], Flavour]] = {
    "StreamMetrics": (api.StreamMetricsRequest, METRICS),
    "StreamLogs": (api.StreamLogsRequest, LOGS),
}

_PATIENCE_SECONDS = 25.0


@dataclasses.dataclass
class _Connection:
    """What one filtered stream brought."""

    method: str
    after: int
    messages: list[Any]
    complete: bool


class Readers:
    """Of all tasks. Reads end by themselves at an end, or are broken off by chance."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self._world = world
        self._chance = chance
        self._models: dict[str, StreamModel] = {}
        self._filtered: dict[str, list[_Connection]] = {}
        self.connections = self.messages = 0
        self._refusal = ""

    async def read(self, names: list[str]) -> None:
        """Without end: one connection after the other about one task after the other; `names` may grow."""
        while True:
            if names:
                await self.connect(self._chance.choice(names), seconds=self._chance.choice((0.05, 0.2, 0.6)))
            else:
                await asyncio.sleep(0.02)

    async def connect(self, name: str, *, seconds: float, after: int | None = None, method: str = "") -> bool:
        """One connection, broken off after so long; whether it ended by itself."""
        model = self._models.setdefault(name, StreamModel())
        method = method or self._chance.choice(("WatchTask", "WatchTask", "StreamMetrics", "StreamLogs"))
        seen = len(model.events())
        after = self._chance.randint(0, seen) if after is None else after
        request = (_FLAVOURS[method][0] if method in _FLAVOURS else api.WatchTaskRequest)(name=name, after_sequence=after)
        messages, complete = await self._messages(method, request, seconds)
        self.connections += 1
        self.messages += len(messages)
        if not messages:
            return False
        if method == "WatchTask":
            model.connection(messages, after=after, complete=complete)
        else:
            self._filtered.setdefault(name, []).append(_Connection(method, after, messages, complete))
        return complete

    async def _messages(self, method: str, request: Any, seconds: float) -> tuple[list[Any], bool]:
        manager = self._chance.choice(self._world.managers)
        call, messages = getattr(manager.stub, method)(request), list[Any]()
        try:
            async with asyncio.timeout(seconds):
                async for message in call:
                    messages.append(message)
                return messages, True
        except TimeoutError:
            call.cancel()
        except grpc.aio.AioRpcError as error:
            self._refusal = f"{error.code().name} {error.details()}"
            if error.code() == grpc.StatusCode.OUT_OF_RANGE:
                raise AssertionError(f"a cursor that was sent is refused: {error.details()}") from error
            if error.code() == grpc.StatusCode.INTERNAL:
                raise
        return messages, False

    async def violations(self, names: list[str]) -> list[str]:
        """Reads every task once more to its end, then judges everything."""
        found = []
        for name in names:
            if not await self._reads_to_the_end(name):
                found.append(f"{name}: its stream does not come to an end; the last refusal was {self._refusal or 'none'}")
        for name in names:
            with contextlib.suppress(KeyError):
                found += [f"{name}: {violation}" for violation in self._judge(name)]
        return found

    async def _reads_to_the_end(self, name: str) -> bool:
        # Not so many tries: a task manager that is still starting refuses them all within a moment.
        until = deadline(_PATIENCE_SECONDS)
        while not await self.connect(name, seconds=5, after=0, method="WatchTask"):
            if deadline(0) > until:
                return False
            await asyncio.sleep(0.1)
        return True

    def _judge(self, name: str) -> list[object]:
        model = self._models[name]
        facts, found = model.events(), list[object](model.violations)
        for one in self._filtered.get(name, ()):
            flavour = _FLAVOURS[one.method][1]
            found += judge(flavour, facts, one.messages, after=one.after, complete=one.complete)
        return found
