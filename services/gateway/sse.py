"""Server-sent events: how one is written, and the response that ends its source when the reader is gone."""

import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import StreamingResponse

from services.common.errors import ServiceError
from services.gateway import failures
from services.gateway.failures import refused
from services.gateway.presence import while_connected

log = structlog.get_logger()

DONE = "data: [DONE]\n\n"
KEEP_ALIVE = ": keep-alive\n\n"
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


def event(data: Any, sequence: int | None = None, *, kind: str = "") -> str:
    """One event; `sequence` is what a reader gives back as Last-Event-ID, `kind` what readers of some streams tell events by."""
    number = f"id: {sequence}\n" if sequence is not None else ""
    named = f"event: {kind}\n" if kind else ""
    return f"{number}{named}data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


def last_sequence(request: Request) -> int:
    """The number in Last-Event-ID, 0 without one."""
    text = request.headers.get("last-event-id", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise refused("Last-Event-ID", f"{text[:40]!r} is not the id of an event of this stream")
    return int(text)


async def respond(request: Request, events: AsyncGenerator[str]) -> StreamingResponse:
    """A stream whose head is sent once the first event is there, so that a refusal still has its status.

    Raises ClientDisconnect when the reader leaves before; the source is ended then.
    """
    first = await while_connected(request, _first(events))
    return StreamingResponse(_with_errors(first, events), media_type="text/event-stream", headers=_HEADERS)


async def _first(events: AsyncGenerator[str]) -> str | None:
    return await anext(events, None)


async def _with_errors(first: str | None, events: AsyncGenerator[str]) -> AsyncGenerator[str]:
    async with contextlib.aclosing(events):
        try:
            if first is not None:
                yield first
            async for each in events:
                yield each
        except ServiceError as error:
            log.info("sse.broken_off", reason=error.reason, message=error.message)
            yield event(failures.body_of(error))
