"""What the gateway counts, and its page at /metrics in Prometheus' text format."""

import collections

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

_METHODS = ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH")
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Counters:
    """Requests by route, method and status, the seconds they took, and those that are being answered."""

    def __init__(self) -> None:
        self.active = 0
        self._requests: collections.Counter[tuple[str, str, int]] = collections.Counter()
        self._seconds: collections.Counter[str] = collections.Counter()

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request that has ended; `route` is its template and odd methods are one, so that there are few."""
        self._requests[route, method if method in _METHODS else "other", status] += 1
        self._seconds[route] += seconds  # type: ignore[assignment]

    def page(self) -> str:
        """Every number, one a line."""
        lines = ["# TYPE tunesmith_gateway_active_requests gauge", f"tunesmith_gateway_active_requests {self.active}"]
        lines.append("# TYPE tunesmith_gateway_requests_total counter")
        for (route, method, status), count in sorted(self._requests.items()):
            labels = f'route="{route}",method="{method}",status="{status}"'
            lines.append(f"tunesmith_gateway_requests_total{{{labels}}} {count}")
        lines.append("# TYPE tunesmith_gateway_request_seconds_total counter")
        for route, seconds in sorted(self._seconds.items()):
            lines.append(f'tunesmith_gateway_request_seconds_total{{route="{route}"}} {seconds:.6f}')
        return "\n".join(lines) + "\n"

    async def serve(self, request: Request) -> Response:
        """GET /metrics."""
        return PlainTextResponse(self.page(), media_type=_TEXT)
