"""How many requests may come from one caller: a bucket each, that fills at a steady rate; used by the edge."""

import collections
import dataclasses
import ipaddress
import time
from collections.abc import Callable

from services.common.errors import ServiceError

_MAX_CALLERS = 10_000
_IPV6_NETWORK_BITS = 64


@dataclasses.dataclass(slots=True)
class _Bucket:
    left: float
    filled: float


class RateLimit:
    """`per_second` on average for each caller; a second's worth may come at once. 0 = no limit.

    Of more than 10,000 callers those that were away longest are forgotten, which gives them a full bucket and harms nobody.
    """

    def __init__(self, per_second: float, now: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._room = max(1.0, per_second)
        self._now = now
        self._buckets: collections.OrderedDict[str, _Bucket] = collections.OrderedDict()

    def take(self, caller: str) -> None:
        """One request; raises ServiceError (RATE_LIMITED) with the milliseconds to wait."""
        if not self._per_second:
            return
        bucket = self._bucket(caller)
        if bucket.left < 1:
            wait = (1 - bucket.left) / self._per_second
            message = f"more than {self._per_second:g} requests a second"
            raise ServiceError("RATE_LIMITED", message, metadata={"retry_after_ms": str(round(wait * 1000))})
        bucket.left -= 1

    def _bucket(self, caller: str) -> _Bucket:
        """Filled up to now."""
        now = self._now()
        bucket = self._buckets.setdefault(caller, _Bucket(self._room, now))
        self._buckets.move_to_end(caller)
        if len(self._buckets) > _MAX_CALLERS:
            self._buckets.popitem(last=False)
        bucket.left = min(self._room, bucket.left + (now - bucket.filled) * self._per_second)
        bucket.filled = now
        return bucket


def network_of(host: str) -> str:
    """Whom an address stands for: of IPv6 the network, because one caller has all of its addresses."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return host if address.version == 4 else str(ipaddress.ip_network((address, _IPV6_NETWORK_BITS), strict=False))
