"""How long a question waits for its first token while others are answered; each client asks again once it is answered."""

import asyncio
import threading
import time

from services.inference.engine import Engine, GenerationRequest, Written
from services.inference.scheduler import Limits, Scheduler
from services.inference.worker import Worker
from tests.bench.inference.contenders import BASE, Prompts


class _Client:
    """A Reader that notes when the first token came, and when the last."""

    def __init__(self, count: int) -> None:
        self.gone = False
        self.first = 0.0
        self.ended = asyncio.Event()
        self._left = count

    def take(self, token: Written) -> bool:
        self.first = self.first or time.perf_counter()
        self._left -= 1
        if not self._left:
            self.ended.set()
        return not self._left

    def end(self, error: Exception | None) -> None:
        self.ended.set()
        if error:
            raise error


def first_tokens(engine: Engine, prompts: Prompts, *, clients: int, count: int) -> list[float]:
    """Seconds to the first token of each prompt, ascending."""
    return sorted(asyncio.run(_ask_all(engine, prompts, clients, count)))


async def _ask_all(engine: Engine, prompts: Prompts, clients: int, count: int) -> list[float]:
    waiting, seconds = list(prompts), []
    with Worker(f"bench-{threading.get_ident()}") as worker:
        scheduler = Scheduler(worker, engine, Limits(rows=16, tokens=65536))

        async def ask() -> None:
            while waiting:
                client, start = _Client(count), time.perf_counter()
                scheduler.enter(GenerationRequest(BASE, None, waiting.pop(), count), client)
                await client.ended.wait()
                seconds.append(client.first - start)

        await asyncio.gather(*(ask() for _ in range(clients)))
    return seconds
