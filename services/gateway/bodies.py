"""JSON bodies and query parameters, checked one by one; every refusal names the parameter as the caller wrote it."""

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from services.common.errors import ServiceError
from services.gateway.failures import refused

_KINDS = {str: "a string", bool: "true or false", dict: "an object", list: "an array", int: "an integer", float: "a number"}
_REQUEST_IDS = uuid.UUID("5f0c7f6e-3f0e-4c55-9d64-1d1d3a9f3c57")
_METADATA = re.compile(r"metadata\[(.*)\]")

Body = dict[str, Any]


async def read_json(request: Request, limit: int) -> Body:
    """The object in the body, {} when it is empty.

    Raises ServiceError: REQUEST_TOO_LARGE, MEDIA_TYPE_UNSUPPORTED, INVALID_FIELD.
    """
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > limit:
            raise ServiceError("REQUEST_TOO_LARGE", f"the body has more than {limit} bytes")
    if not raw:
        return {}
    # A page in somebody's browser may send anything but this to another site without asking.
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise ServiceError("MEDIA_TYPE_UNSUPPORTED", "the body is not of type application/json")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise refused("body", f"is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise refused("body", "is not a JSON object")
    _refuse_lone_surrogates(raw, body)
    return body


def _refuse_lone_surrogates(raw: bytearray, body: Body) -> None:
    """JSON can spell half a character, which no other encoding can hold."""
    if b"\\ud" in raw.lower():
        try:
            json.dumps(body, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise refused("body", "holds half of a surrogate pair") from None


def optional(body: Mapping[str, Any], name: str, kind: type, path: str = "") -> Any:
    """The value of `name`; None when it is absent or null. An integer passes as a number, and has at most 64 bits."""
    value = body.get(name)
    kinds = (int, float) if kind is float else (kind,)
    if value is None:
        return None
    if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
        raise refused(path + name, f"is not {_KINDS[kind]}")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise refused(path + name, "is a number of more than 64 bits")
    return value


def in_32_bits(name: str, value: int) -> int:
    """The value; raises InvalidArgument when it has more bits."""
    if not -(2**31) <= value < 2**31:
        raise refused(name, f"{value} is a number of more than 32 bits")
    return value


def required(body: Mapping[str, Any], name: str, kind: type, path: str = "") -> Any:
    """As `optional`, but it must be there and not be empty."""
    value = optional(body, name, kind, path)
    if value is None or value in ("", [], {}):
        raise refused(path + name, "is required")
    return value


def whole_number(request: Request, name: str, default: int, high: int) -> int:
    """A query parameter from 1 to `high`."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= high):
        raise refused(name, f"{text[:40]!r} is not a number from 1 to {high}")
    return int(text)


def choice(request: Request, name: str, default: str, known: tuple[str, ...]) -> str:
    """A query parameter that is one of `known`."""
    value = request.query_params.get(name, default)
    if value not in known:
        raise refused(name, f"{value[:40]!r} is none of {', '.join(known)}")
    return value


def metadata_filter(request: Request) -> tuple[dict[str, str], bool]:
    """`metadata[key]=value` pairs, and whether only what has no metadata is wanted (`metadata=null`)."""
    pairs = {match[1]: value for name, value in request.query_params.items() if (match := _METADATA.fullmatch(name))}
    return pairs, request.query_params.get("metadata") == "null"


def request_id(request: Request, operation: str) -> str:
    """A UUID that is the same for every repeat under one `Idempotency-Key`; empty without that header."""
    key = request.headers.get("idempotency-key", "")
    return str(uuid.uuid5(_REQUEST_IDS, f"{operation}\n{key}")) if key else ""
