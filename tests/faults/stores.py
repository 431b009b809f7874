"""The storage service as a process, with a wire to its database and one to its object store, and callers that use it."""

import asyncio
import contextlib
import pathlib
import random
import secrets
import signal
import time
import urllib.parse
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TypeVar

import grpc
from embedded import S3, bound_to_this_process, running
from integration.storage.test_process import Process, environment
from unit.storage.service import Service, lines, row

from services.common.rich_status import reason_of
from tests.faults.proxy import Proxy
from tests.faults.world import deadline
from tunesmith.local.object_store import PORT_COUNT, ObjectStore
from tunesmith.local.ports import pick_free

Answer = TypeVar("Answer")

_CALL_SECONDS = 30.0
_PAUSE_SECONDS = 1.0
_KIB = 64


class Stores:
    """Wires, stubs, and what was acknowledged through them."""

    def __init__(self, postgres: Proxy, s3: Proxy, service: Service, chance: random.Random) -> None:
        self.postgres, self.s3, self.service = postgres, s3, service
        self.stored: dict[str, bytes] = {}
        """Contents by the name that was answered."""
        self.refusals = Counter[str]()
        """Reasons, and `no answer` for calls that took longer than anybody waits."""
        self.broken: list[str] = []
        self.slowest_refusal = 0.0
        """Seconds."""
        self._chance = chance

    async def use(self, over: asyncio.Event) -> None:
        """Stores something new, asks for it until it is acknowledged, reads something back, and so on until it is over."""
        while not over.is_set():
            await self.store()
            await self.read(self._chance.choice([*self.stored]))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def store(self) -> None:
        """A dataset or an artifact; the repeats of a request that was not answered are the same request."""
        store = self._chance.choice((self._dataset, self._artifact))
        number, content = secrets.token_hex(16), secrets.token_bytes(_KIB * 1024)
        while (named := await self._once(lambda: store(number, content))) is None:  # noqa: ASYNC110 - storage is away
            await asyncio.sleep(_PAUSE_SECONDS)
        name, stored = named
        self.stored[name] = stored
        # Asked once more, since a caller cannot know whether an answer was on its way.
        again = await self._once(lambda: store(number, content))
        if again is not None and again[0] != name:
            self.broken.append(f"doubled {name}: one request made {again[0]} as well")

    async def read(self, name: str) -> bool:
        """Whether it was answered; other bytes than were stored are noted."""

        async def download() -> bytes:
            if name.startswith("datasets/"):
                return await self.service.download(name)
            return await self.service.download_artifact(name, "weights.bin")

        content = await self._once(download)
        if content is not None and content != self.stored[name]:
            self.broken.append(f"damaged {name}: {len(content)} bytes of {len(self.stored[name])}, or others")
        return content is not None

    async def verdict(self, patience: float) -> list[str]:
        """Every broken promise; reads all that was acknowledged."""
        until = deadline(patience)
        for name in self.stored:
            while not await self.read(name):
                if deadline(0) > until:
                    self.broken.append(f"lost {name}: it was acknowledged and cannot be read")
                    break
        return self.broken

    async def _dataset(self, number: str, content: bytes) -> tuple[str, bytes]:
        rows = lines(row(content.hex()))
        request = f"{number[:8]}-{number[8:12]}-4{number[13:16]}-8{number[17:20]}-{number[20:]}"
        return (await self.service.upload(rows, request_id=request)).name, rows

    async def _artifact(self, number: str, content: bytes) -> tuple[str, bytes]:
        task = f"tasks/{number[:8]}-{number[8:12]}-4{number[13:16]}-8{number[17:20]}-{number[20:]}"
        return (await self.service.store_artifact({"weights.bin": content}, task=task)).name, content

    async def _once(self, call: Callable[[], Awaitable[Answer]]) -> Answer | None:
        """The answer, or None for a refusal that invites to ask again; anything else is raised."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                return await call()
        except TimeoutError:
            self.refusals["no answer"] += 1
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            self.refusals[reason_of(error)] += 1
        self.slowest_refusal = max(self.slowest_refusal, time.monotonic() - started)
        return None


@contextlib.asynccontextmanager
async def stores_of(dsn: str, directory: pathlib.Path, chance: random.Random) -> AsyncIterator[Stores]:
    """A started storage service with the settings it has by default."""
    place = urllib.parse.urlsplit(dsn)
    with _object_store(directory) as s3:
        async with (
            Proxy(f"{place.hostname}:{place.port}").serving() as postgres,
            Proxy(s3.endpoint.removeprefix("http://")).serving() as wire,
        ):
            behind = S3(f"http://{wire.address}", s3.access_key, s3.secret_key, s3.bucket)
            settings = environment(dsn.replace(f"{place.hostname}:{place.port}", postgres.address), behind)
            process = Process(settings, directory / "storage.log")
            try:
                until = deadline(60)
                while not await process.answers():
                    assert deadline(0) < until, process.log.read_text()
                async with grpc.aio.insecure_channel(process.address) as channel:
                    yield Stores(postgres, wire, Service(channel, set), chance)  # type: ignore[arg-type]
            finally:
                process.process.kill()
                await process.ended()


@contextlib.contextmanager
def _object_store(directory: pathlib.Path) -> Iterator[S3]:
    place = directory / "s3"
    server = ObjectStore(place, secrets.token_hex(8), secrets.token_hex(16), tuple(pick_free(PORT_COUNT)))
    server.initialise()
    command = (*bound_to_this_process("SIGTERM"), *server.command())
    with running(command, server.environment(), server.is_ready, directory / "s3.log", signal.SIGTERM):
        yield S3(server.endpoint, server.access_key, server.secret_key, "outage")
