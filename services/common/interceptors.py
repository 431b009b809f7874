"""What wraps every RPC: request id and log context, the API key, a deadline for unary calls, and errors to google.rpc.Status."""

from __future__ import annotations

import asyncio
import hmac
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NoReturn

import grpc
import structlog
from grpc_status import rpc_status

from services.common import rich_status
from services.common.errors import ServiceError

log = structlog.get_logger()

REQUEST_ID = "x-request-id"
# Health and reflection answer without a key: a load balancer has none, and neither tells anything of the users.
_PUBLIC = ("/grpc.health.v1.Health/", "/grpc.reflection.")


class EdgeInterceptor(grpc.aio.ServerInterceptor):
    """Stands before every method of a service. `api_key` empty = no key asked.

    `unary_timeout` caps unary calls, in seconds; `slow_methods` have longer ones of their own, by full name.
    """

    def __init__(
        self, *, api_key: str = "", unary_timeout: float = 60.0, slow_methods: Mapping[str, float] | None = None
    ) -> None:
        self._api_key = api_key
        self._unary_timeout = unary_timeout
        self._slow_methods = dict(slow_methods or {})
        self._calls: set[asyncio.Task[Any]] = set()

    async def cleaned_up(self, timeout: float) -> None:
        """Waits until calls that were cancelled have removed what they leave behind; at most `timeout` seconds."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=timeout)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler, wrapped by its own kind."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_PUBLIC):
            return handler
        if handler.response_streaming:
            return self._streaming(handler, method)
        return self._unary(handler, method)

    def _unary(self, handler: Any, method: str) -> grpc.RpcMethodHandler[Any, Any]:
        inner = handler.stream_unary if handler.request_streaming else handler.unary_unary
        timeout = None if handler.request_streaming else self._slow_methods.get(method, self._unary_timeout)

        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            started = self._enter(method, context)
            try:
                self._authenticate(context)
                async with asyncio.timeout(timeout) as limit:
                    response = await inner(request, context)
                log.debug("rpc.done", seconds=round(time.monotonic() - started, 4))
                return response
            except Exception as error:
                if isinstance(error, TimeoutError) and limit.expired():
                    error = ServiceError("DEADLINE_EXCEEDED", f"{method} took longer than {timeout} s")
                await abort(context, error)

        make = grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
        return make(call, handler.request_deserializer, handler.response_serializer)

    def _streaming(self, handler: Any, method: str) -> grpc.RpcMethodHandler[Any, Any]:
        inner = handler.stream_stream if handler.request_streaming else handler.unary_stream

        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            self._enter(method, context)
            try:
                self._authenticate(context)
                async for response in inner(request, context):
                    yield response
            except Exception as error:
                await abort(context, error)

        make = grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
        return make(call, handler.request_deserializer, handler.response_serializer)

    def _enter(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> float:
        request_id = _metadata(context).get(REQUEST_ID) or str(uuid.uuid4())
        task = asyncio.current_task()
        if task is not None:
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id[:128], method=method)
        context.set_trailing_metadata(((REQUEST_ID, request_id[:128]),))
        return time.monotonic()

    def _authenticate(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if not self._api_key:
            return
        given = _metadata(context).get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._api_key.encode()):
            raise ServiceError("UNAUTHENTICATED", "the API key is missing or wrong")


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> NoReturn:
    """Ends the call with the status of `error`; what is not a ServiceError is logged whole and answered INTERNAL."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    service_error = logged(error)
    request_id = structlog.contextvars.get_contextvars().get("request_id", "")
    context.set_trailing_metadata(((REQUEST_ID, request_id),))
    await context.abort_with_status(rpc_status.to_status(rich_status.to_status(service_error)))


def logged(error: Exception) -> ServiceError:
    """What the caller is told of an error; what is not a ServiceError is logged whole and told as INTERNAL."""
    service_error = _as_service_error(error)
    if service_error.reason == "INTERNAL":
        log.exception("rpc.crashed", exc_info=error)
    else:
        log.info("rpc.refused", reason=service_error.reason, message=service_error.message)
    return service_error


def _as_service_error(error: Exception) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    request_id = structlog.contextvars.get_contextvars().get("request_id", "")
    message = f"the service failed while answering; request id {request_id}"
    return ServiceError("INTERNAL", message, metadata={"request_id": str(request_id)})


def _metadata(context: grpc.aio.ServicerContext[Any, Any]) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
