"""Delivers the events of webhooks, at least once each; a loop that `__main__` starts when a webhook is set."""

import asyncio
import datetime
from collections.abc import Callable, Collection
from typing import Protocol

import structlog

from services.task_manager.domain import webhook
from services.task_manager.domain.webhook import Endpoint, WebhookEvent
from services.task_manager.webhook_http import DeliveryError, post

log = structlog.get_logger()

_AT_ONCE = 10
_TIMEOUT_SECONDS = 15.0
# Longer than resolving, connecting and waiting for an answer may take together.
_LEASE = datetime.timedelta(minutes=3)
_GONE = 410


class Events(Protocol):
    """WebhookEvents, as far as the delivery needs it."""

    async def configure(self, kinds: Collection[str]) -> None:
        """See WebhookEvents."""

    async def take(self, limit: int, lease: datetime.timedelta) -> list[WebhookEvent]:
        """See WebhookEvents."""

    async def record(self, event: WebhookEvent, outcome: str, rest: datetime.timedelta | None) -> None:
        """See WebhookEvents."""

    async def tidy(self) -> None:
        """See WebhookEvents."""


class WebhookDelivery:
    """`now` is the clock that receivers compare with theirs."""

    def __init__(self, events: Events, endpoint: Endpoint, *, allow_private: bool, now: Callable[[], datetime.datetime]) -> None:
        self._events = events
        self._endpoint = endpoint
        self._allow_private = allow_private
        self._now = now

    async def round(self) -> None:
        """Everything that is due; raises Unavailable when Postgres is away."""
        while due := await self._events.take(_AT_ONCE, _LEASE):
            await asyncio.gather(*(self._deliver(event) for event in due))
        await self._events.tidy()

    async def _deliver(self, event: WebhookEvent) -> None:
        content = webhook.body(event)
        headers = webhook.headers(event, content, self._endpoint.key, self._now())
        try:
            status = await asyncio.to_thread(
                post, self._endpoint, content, headers, allow_private=self._allow_private, timeout=_TIMEOUT_SECONDS
            )
        except DeliveryError as error:
            await self._failed(event, str(error), webhook.rest_before_next(event.tries))
            return
        if 200 <= status < 300:
            await self._events.record(event, f"HTTP {status}", None)
            log.info("webhook.delivered", event_id=str(event.id), kind=event.kind, tries=event.tries)
        else:
            # The specification's way of a receiver to say that it wants no more.
            await self._failed(event, f"HTTP {status}", None if status == _GONE else webhook.rest_before_next(event.tries))

    async def _failed(self, event: WebhookEvent, outcome: str, rest: datetime.timedelta | None) -> None:
        await self._events.record(event, outcome, rest)
        what = "webhook.refused" if rest else "webhook.given_up"
        log.warning(what, event_id=str(event.id), kind=event.kind, tries=event.tries, outcome=outcome, again_in=str(rest))
