"""Reads all stored bytes again, slowly and for ever, and says what has rotted; never changes or deletes any of them."""

import asyncio
import datetime
from collections.abc import Awaitable, Callable

import structlog

from services.common.errors import ServiceError, Unavailable
from services.storage.artifact import artifact_name
from services.storage.digests import Digests
from services.storage.object_store import ObjectStore
from services.storage.scrub import StoredContent
from services.storage.scrub_repository import ScrubRepository

log = structlog.get_logger()

_IDLE = datetime.timedelta(minutes=1)
MISSING = "its object is gone"
CHANGED = "its bytes have another checksum"

Sleep = Callable[[float], Awaitable[None]]


class Scrubber:
    """Reads at most `bytes_per_second`, and each content again when `interval` has passed since the last time."""

    def __init__(
        self,
        repository: ScrubRepository,
        store: ObjectStore,
        *,
        bytes_per_second: int,
        interval: datetime.timedelta,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._repository = repository
        self._store = store
        self._bytes_per_second = bytes_per_second
        self._interval = interval
        self._sleep = sleep

    async def run(self) -> None:
        """Until cancelled; what fails is tried again."""
        while True:
            if not await self._step():
                await self._sleep(_IDLE.total_seconds())

    async def _step(self) -> bool:
        try:
            return await self.check_next()
        except ServiceError as error:
            log.warning("scrub.failed", reason=error.reason, error=error.message)
        except Exception:
            log.exception("scrub.crashed")
        return False

    async def check_next(self) -> bool:
        """Checks what was last read longest ago; False when nothing is due. Raises Unavailable."""
        content = await self._repository.take(self._interval, self._bytes_per_second)
        if content is None:
            return False
        try:
            damage, blake3 = await self._check(content)
        except Unavailable:
            # A store that is away has damaged nothing.
            await self._repository.give_back(content, _IDLE)
            raise
        await report_damage(self._repository, content, damage, blake3)
        return True

    async def _check(self, content: StoredContent) -> tuple[str, str]:
        """What is wrong, empty = nothing, and the BLAKE3 of bytes that are right."""
        size = await self._store.size(content.object_key)
        if size is None:
            return MISSING, ""
        if size != content.size_bytes:
            return f"its object has {size} bytes instead of {content.size_bytes}", ""
        # Bytes may also change on their way here; what is stored is judged when it was wrong twice.
        for _ in range(2):
            digests = await self._digests(content)
            if digests.sha256 == content.sha256:
                return "", digests.blake3
        return CHANGED, ""

    async def _digests(self, content: StoredContent) -> Digests:
        digests = Digests()
        async for chunk in self._store.read(content.object_key, 0, content.size_bytes):
            digests.update(chunk)
            await self._sleep(len(chunk) / self._bytes_per_second)
        return digests


async def report_damage(repository: ScrubRepository, content: StoredContent, damage: str, blake3: str = "") -> None:
    """Records what was found, empty = nothing, and logs what is new."""
    notices = await repository.record(content, damage, blake3)
    if damage:
        log.error("content.damaged", sha256=content.sha256, object_key=content.object_key, damage=damage)
    for notice in notices:
        log.error("artifact.damaged", artifact=artifact_name(notice.artifact), path=notice.path, damage=damage)
