"""Values of bodies and queries: what passes, and how what does not is named."""

import json
import uuid
from collections.abc import Iterable

import pytest
from starlette.requests import Request

from services.common.errors import InvalidArgument, ServiceError
from services.gateway import bodies
from services.gateway.unsupported import refuse_present


def request_of(query: str = "", headers: dict[str, str] | None = None, chunks: Iterable[bytes] = ()) -> Request:
    pieces = iter(chunks)

    async def receive() -> dict:
        body = next(pieces, None)
        return {"type": "http.request", "body": body or b"", "more_body": body is not None}

    headers = {"content-type": "application/json", **(headers or {})}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "query_string": query.encode(), "headers": raw, "method": "POST"}, receive)


def refusal(work, *arguments) -> str:
    with pytest.raises(InvalidArgument) as caught:
        work(*arguments)
    return caught.value.violations[0].field


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("", str),
        ("x", str),
        (False, bool),
        (0, int),
        (-(2**63), int),
        (2**63 - 1, int),
        (1, float),
        (1.5, float),
        ({}, dict),
        ([], list),
    ],
)
def test_a_value_of_its_kind_passes_as_it_is(value, kind) -> None:
    assert bodies.optional({"a": value}, "a", kind) == value


@pytest.mark.parametrize("kind", [str, bool, int, float, dict, list])
def test_what_is_absent_or_null_is_none(kind) -> None:
    assert bodies.optional({}, "a", kind) is None
    assert bodies.optional({"a": None}, "a", kind) is None


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, str),
        ("1", int),
        (True, int),
        (True, float),
        (1.0, int),
        (1, bool),
        ([], dict),
        ({}, list),
        (2**63, int),
        (-(2**64), float),
    ],
)
def test_what_is_of_another_kind_is_named_with_its_path(value, kind) -> None:
    assert refusal(bodies.optional, {"a": value}, "a", kind, "outer.") == "outer.a"


@pytest.mark.parametrize(("value", "kind"), [(None, str), ("", str), ([], list), ({}, dict)])
def test_what_is_required_is_not_empty(value, kind) -> None:
    assert refusal(bodies.required, {"a": value}, "a", kind) == "a"


def test_zero_and_false_are_not_empty() -> None:
    assert bodies.required({"a": 0}, "a", int) == 0
    assert bodies.required({"a": False}, "a", bool) is False


async def test_a_body_may_come_in_pieces() -> None:
    whole = json.dumps({"a": "ü" * 100}, ensure_ascii=False).encode()
    chunks = [whole[start : start + 7] for start in range(0, len(whole), 7)]
    assert await bodies.read_json(request_of(chunks=chunks), len(whole)) == {"a": "ü" * 100}
    with pytest.raises(ServiceError) as caught:
        await bodies.read_json(request_of(chunks=chunks), len(whole) - 1)
    assert caught.value.reason == "REQUEST_TOO_LARGE"


async def test_no_body_is_an_empty_object() -> None:
    assert await bodies.read_json(request_of(), 10) == {}


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_what_a_browser_may_send_to_any_site_is_refused(kind: str) -> None:
    with pytest.raises(ServiceError) as caught:
        await bodies.read_json(request_of(headers={"content-type": kind}, chunks=[b"{}"]), 10)
    assert caught.value.reason == "MEDIA_TYPE_UNSUPPORTED"


async def test_a_whole_character_may_be_spelled_in_two_halves() -> None:
    assert await bodies.read_json(request_of(chunks=[rb'{"a": "\ud83d\ude00"}']), 100) == {"a": "😀"}


@pytest.mark.parametrize(("query", "number"), [("", 20), ("limit=1", 1), ("limit=0100", 100), ("limit=100", 100)])
def test_whole_numbers(query: str, number: int) -> None:
    assert bodies.whole_number(request_of(query), "limit", 20, 100) == number


@pytest.mark.parametrize("text", ["0", "101", "-1", "1.0", "x", "", "%D9%A3", "9" * 5000])
def test_what_is_no_number_from_1_to_the_limit_is_named(text: str) -> None:
    assert refusal(bodies.whole_number, request_of(f"limit={text}"), "limit", 20, 100) == "limit"


def test_choices() -> None:
    assert bodies.choice(request_of("order=asc"), "order", "desc", ("asc", "desc")) == "asc"
    assert bodies.choice(request_of(), "order", "desc", ("asc", "desc")) == "desc"
    assert refusal(bodies.choice, request_of("order=up"), "order", "desc", ("asc", "desc")) == "order"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ({}, False)),
        ("metadata=null", ({}, True)),
        ("metadata=x", ({}, False)),
        ("metadata[a]=1&metadata[b.c]=x%20y", ({"a": "1", "b.c": "x y"}, False)),
        ("metadata%5Ba%5D=1", ({"a": "1"}, False)),
    ],
)
def test_metadata_in_a_query(query: str, found: tuple) -> None:
    assert bodies.metadata_filter(request_of(query)) == found


def test_one_key_is_one_id_for_each_operation_and_none_is_none() -> None:
    with_key = request_of(headers={"idempotency-key": "k" * 300})
    jobs, files = bodies.request_id(with_key, "jobs"), bodies.request_id(with_key, "files")
    assert jobs == bodies.request_id(with_key, "jobs") != files
    assert uuid.UUID(jobs).version == 5
    assert bodies.request_id(request_of(), "jobs") == ""


def test_what_asks_for_nothing_is_not_refused() -> None:
    reasons = {"tools": "is not supported"}
    for nothing in ({}, {"tools": None}, {"tools": []}, {"tools": False}, {"tools": 0}, {"tools": ""}):
        refuse_present(nothing, reasons)
    with pytest.raises(InvalidArgument) as caught:
        refuse_present({"tools": [1]}, reasons)
    assert (caught.value.reason, caught.value.message) == ("UNSUPPORTED_PARAMETER", "tools: is not supported")
