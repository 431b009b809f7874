"""What stands before every resource: request id, key, limits, headers, and errors in OpenAI's shape."""

import asyncio
import hmac
import re
import time
import uuid
from collections.abc import Mapping, Sequence

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.errors import ServiceError
from services.gateway import failures
from services.gateway.counters import Counters
from services.gateway.rate_limit import RateLimit, network_of
from services.gateway.settings import GatewaySettings

log = structlog.get_logger()

_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_PUBLIC = ("/healthz", "/readyz", "/metrics", "/openapi.json")
_PARAMETER = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
_MAX_TOLD = 32
_VERSION = (b"openai-version", b"2020-10-01")
Headers = dict[bytes, bytes]


class Edge:
    """The ASGI application around the router; `allowed` has the methods of every path, as a header says them."""

    def __init__(
        self, app: ASGIApp, settings: GatewaySettings, counters: Counters, allowed: Mapping[str, str] | None = None
    ) -> None:
        self._app = app
        self._allowed = allowed or {}
        self._settings = settings
        self._counters = counters
        self._limit = RateLimit(settings.requests_per_second)
        self._address_limit = RateLimit(settings.address_requests_per_second)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, start to end."""
        if scope["type"] != "http":
            return
        headers: Headers = dict(scope["headers"])
        exchange = _Exchange(scope, send, _request_id(headers))
        scope["app"] = self  # the router then raises what it cannot answer
        scope.setdefault("state", {})
        self._counters.active += 1
        try:
            await self._answer(scope, self._impatient(receive), exchange, headers)
        finally:
            self._counters.active -= 1
            route = getattr(scope.get("route"), "path", "none")
            self._counters.count(route, scope["method"], exchange.status, exchange.seconds)
            log.debug(
                "http.done", method=scope["method"], route=route, status=exchange.status, seconds=round(exchange.seconds, 4)
            )

    async def _answer(self, scope: Scope, receive: Receive, exchange: "_Exchange", headers: Headers) -> None:
        try:
            self._admit(scope, headers)
            await self._app(scope, receive, exchange.send)
        except ClientDisconnect:
            exchange.status = 499
        except Exception as error:
            allow = self._allowed.get(getattr(scope.get("route"), "path", ""), "")
            await exchange.fail(_as_service_error(error, exchange.request_id, scope["path"], allow), receive)

    def _admit(self, scope: Scope, headers: Headers) -> None:
        if scope["path"] in _PUBLIC:
            return
        if self._counters.active > self._settings.max_requests:
            raise ServiceError("RATE_LIMITED", f"more than {self._settings.max_requests} requests are being answered")
        address = network_of((scope.get("client") or ("",))[0])
        self._address_limit.take(address)
        # A limit that is taken before the key is known to be right could be used up by anybody.
        self._limit.take(self._caller(headers) or address)
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise ServiceError("MEDIA_TYPE_UNSUPPORTED", "compressed request bodies are not accepted")

    def _caller(self, headers: Headers) -> str:
        """The key that was given, empty when none is asked for; raises ServiceError for a wrong one."""
        given, key = headers.get(b"authorization", b"").removeprefix(b"Bearer ").strip(), self._settings.api_key
        if key and not hmac.compare_digest(given, key.encode()):
            message = "the API key is missing or wrong"
            raise ServiceError("UNAUTHENTICATED", message, hint="Send it as header: Authorization: Bearer KEY.")
        return key

    def _impatient(self, receive: Receive) -> Receive:
        """`receive` that waits for the next piece of a body only so long; for the end of the connection as long as it takes."""
        awaits_body = True

        async def timed() -> Message:
            nonlocal awaits_body
            seconds = self._settings.body_timeout.total_seconds() if awaits_body else None
            try:
                async with asyncio.timeout(seconds):
                    message = await receive()
            except TimeoutError:
                raise ServiceError("REQUEST_TIMED_OUT", f"nothing of the request's body came for {seconds:g} s") from None
            awaits_body = message["type"] == "http.request" and message.get("more_body", False)
            return message

        return timed


class _Exchange:
    """The answer to one request: its headers, its status, and whether it has begun."""

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self.request_id = request_id
        self.status = 499  # nobody was there any more to answer, unless something says otherwise
        self._scope = scope
        self._send = send
        self._began = time.monotonic()
        self._started = False
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    async def send(self, message: Message) -> None:
        """Passes on; the head gets what every answer has."""
        if message["type"] == "http.response.start":
            self._started, self.status = True, message["status"]
            message["headers"] = [*message["headers"], *self._headers()]
        await self._send(message)

    async def fail(self, error: ServiceError, receive: Receive) -> None:
        """Answers with an error; an answer that has begun can only be broken off."""
        if error.reason != "INTERNAL":
            log.info("http.refused", reason=error.reason, message=error.message)
        if self._started:
            raise error
        await failures.response(error)(self._scope, receive, self.send)

    def _headers(self) -> list[tuple[bytes, bytes]]:
        ignored = self._scope["state"].get("ignored_parameters", ())
        return [
            (b"x-request-id", self.request_id.encode()),
            (b"openai-processing-ms", str(round(self.seconds * 1000)).encode()),
            _VERSION,
            *([(b"x-tunesmith-ignored", _told(ignored))] if ignored else []),
        ]


def _told(names: Sequence[str]) -> bytes:
    """Names of parameters in a header: what could not be one of ours is a question mark, whatever it holds."""
    told = dict.fromkeys(name if _PARAMETER.fullmatch(name) else "?" for name in names[:_MAX_TOLD])
    return ", ".join(told).encode()


def _request_id(headers: Headers) -> str:
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if _GIVEN_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"


def _under(path: str) -> str:
    """What may help who asked for a path that is not there; empty = what always helps."""
    return "" if path.startswith("/v1/") else "OpenAI's API is below /v1 here: end the base URL with it."


def _as_service_error(error: Exception, request_id: str, path: str, allow: str) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, HTTPException) and error.status_code == 405:
        return ServiceError("METHOD_NOT_ALLOWED", "this path has other methods", metadata={"allow": allow})
    if isinstance(error, HTTPException) and error.status_code == 404:
        return ServiceError("ROUTE_NOT_FOUND", "there is nothing at this path", hint=_under(path))
    log.exception("http.crashed", exc_info=error)
    return ServiceError("INTERNAL", f"the gateway failed while answering; request id {request_id}")
