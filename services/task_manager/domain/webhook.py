"""What a webhook says and how it is signed; pure. Source: https://github.com/standard-webhooks/standard-webhooks, spec 1.0."""

import base64
import binascii
import dataclasses
import datetime
import hashlib
import hmac
import ipaddress
import json
import urllib.parse
import uuid
from collections.abc import Mapping

KINDS = (
    *("task.queued", "task.starting", "task.running", "task.pausing", "task.paused"),
    *("task.cancelling", "task.succeeded", "task.failed", "task.cancelled"),
    *("artifact.expiring", "artifact.damaged"),
)
ARTIFACT_KINDS = ("artifact.expiring", "artifact.damaged")
ENDS = ("task.succeeded", "task.failed", "task.cancelled")
DEFAULT_KINDS = (*ENDS, *ARTIFACT_KINDS)

_SECRET_PREFIX = "whsec_"  # noqa: S105 - says what follows
_RESTS = tuple(datetime.timedelta(seconds=seconds) for seconds in (5, 300, 1800, 7200, 18000, 36000))


@dataclasses.dataclass(frozen=True, slots=True)
class WebhookEvent:
    """A change that somebody wants to hear of; `tries` counts this delivery, from 1."""

    id: uuid.UUID
    kind: str
    task_id: uuid.UUID
    attempt: int
    create_time: datetime.datetime
    tries: int
    artifact: uuid.UUID | None = None
    """What an announcement is about; None = the task itself."""
    days: int = 0
    """Until its end, of `artifact.expiring`: 7, 3 or 1."""
    expire_time: datetime.datetime | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ArtifactNotice:
    """What storage has announced about an artifact."""

    kind: str
    artifact: uuid.UUID
    task: uuid.UUID
    days: int
    expire_time: datetime.datetime


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """Where events go. `key` signs them."""

    scheme: str
    host: str
    port: int
    target: str
    """Path and query."""
    key: bytes


def parse_endpoint(url: str, secret: str, *, allow_http: bool) -> Endpoint:
    """Raises ValueError that says what is wrong; neither URL nor secret is in the message, both may be secret."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("expected a URL such as https://example.com/hooks")
    if parts.scheme == "http" and not allow_http:
        raise ValueError("expected https; http needs WEBHOOK_ALLOW_HTTP")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("expected a URL without user, password and fragment")
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise ValueError("expected printable ASCII without spaces")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Endpoint(parts.scheme, parts.hostname, port, target, parse_secret(secret))


def parse_secret(secret: str) -> bytes:
    """The key in `whsec_` and base64; raises ValueError unless it has 24 to 64 bytes."""
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(_SECRET_PREFIX) or not 24 <= len(key) <= 64:
        raise ValueError("expected whsec_ and 24 to 64 bytes in base64; openssl rand -base64 32 makes them")
    return key


def body(event: WebhookEvent) -> bytes:
    """JSON that names the task or artifact and holds nothing of it: whoever wants more asks with a key of theirs."""
    said = {
        "object": "event",
        "id": f"evt_{event.id}",
        "type": event.kind,
        "created_at": int(event.create_time.timestamp()),
        "data": _subject(event),
    }
    return json.dumps(said, separators=(",", ":")).encode()


def _subject(event: WebhookEvent) -> dict[str, str | int]:
    if event.artifact is None:
        return {"object": "task", "name": f"tasks/{event.task_id}", "attempt": event.attempt}
    said: dict[str, str | int] = {"object": "artifact", "name": f"artifacts/{event.artifact}", "task": f"tasks/{event.task_id}"}
    if event.days:
        said["days"] = event.days
    if event.expire_time is not None:
        said["expire_time"] = int(event.expire_time.timestamp())
    return said


def headers(event: WebhookEvent, content: bytes, key: bytes, now: datetime.datetime) -> Mapping[str, str]:
    """The three headers of the specification. Receivers know a repeat by `webhook-id`, and see which try it is."""
    identifier, timestamp = f"evt_{event.id}", int(now.timestamp())
    return {
        "webhook-id": identifier,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(identifier, timestamp, content, key),
        "tunesmith-delivery-try": str(event.tries),
    }


def sign(identifier: str, timestamp: int, content: bytes, key: bytes) -> str:
    """The value of `webhook-signature`; `timestamp` in seconds since 1970."""
    signed = b".".join([identifier.encode(), str(timestamp).encode(), content])
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def rest_before_next(tries: int) -> datetime.timedelta | None:
    """How long to wait after so many failed tries, from 1; None = no more. The specification's own schedule, up to ten hours."""
    return _RESTS[tries - 1] if tries <= len(_RESTS) else None


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet, and neither of this machine nor of a network near it."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(ip.packed[12:])
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
