"""Brings storage's announcements about artifacts to the webhook; a loop that `__main__` starts when the webhook wants them."""

from collections.abc import Sequence
from typing import Protocol

import structlog

from services.task_manager.domain.webhook import ArtifactNotice

log = structlog.get_logger()


class Notices(Protocol):
    """GrpcArtifactNotices."""

    async def after(self, sequence: int) -> tuple[Sequence[ArtifactNotice], int]:
        """See GrpcArtifactNotices."""


class Events(Protocol):
    """WebhookEvents, as far as this needs it."""

    async def heard(self) -> int | None:
        """See WebhookEvents."""

    async def hear(self, before: int | None, last: int, notices: Sequence[ArtifactNotice]) -> None:
        """See WebhookEvents."""


class ArtifactNews:
    """Each announcement becomes an event once, whatever the number of task managers; what came before anybody asked does not."""

    def __init__(self, notices: Notices, events: Events) -> None:
        self._notices = notices
        self._events = events

    async def round(self) -> None:
        """Everything that is new; raises Unavailable when storage or Postgres is away."""
        heard = await self._events.heard()
        if heard is None:
            await self._events.hear(None, await self._newest(), ())
            return
        while True:
            notices, last = await self._notices.after(heard)
            if last == heard:
                return
            await self._events.hear(heard, last, notices)
            log.info("artifacts.announced", count=len(notices), last_sequence=last)
            heard = last

    async def _newest(self) -> int:
        last = 0
        while True:
            _, reached = await self._notices.after(last)
            if reached == last:
                return last
            last = reached
