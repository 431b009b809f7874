"""Pages, presence and counters: small parts that every resource leans on."""

import asyncio

import pytest
from starlette.requests import ClientDisconnect, Request

from services.common.errors import InvalidArgument
from services.gateway import lists
from services.gateway.counters import Counters
from services.gateway.presence import while_connected


async def numbers(count: int, taken: list[int]):
    for number in range(count):
        taken.append(number)
        yield number


@pytest.mark.parametrize(
    ("count", "limit", "found", "more"), [(0, 2, 0, False), (2, 2, 2, False), (3, 2, 2, True), (9, 2, 2, True)]
)
async def test_a_page_takes_one_more_than_it_shows_and_no_further(count: int, limit: int, found: int, more: bool) -> None:
    taken: list[int] = []
    assert await lists.take(numbers(count, taken), limit) == (list(range(found)), more)
    assert len(taken) == min(count, limit + 1)


def test_the_envelope_names_its_ends() -> None:
    assert lists.page_of([], has_more=False) == {
        "object": "list",
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }
    page = lists.page_of([{"id": "a"}, {"id": "b"}], has_more=True)
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("a", "b", True)


def test_an_unknown_cursor_is_cut_and_named() -> None:
    error = lists.unknown_cursor("x" * 500)
    assert isinstance(error, InvalidArgument)
    assert error.violations[0].field == "after"
    assert len(error.message) < 150


def request_of(messages: asyncio.Queue) -> Request:
    return Request({"type": "http", "method": "POST", "headers": []}, messages.get)


async def test_work_that_ends_is_answered() -> None:
    async def work() -> int:
        return 7

    assert await while_connected(request_of(asyncio.Queue()), work()) == 7


async def test_work_that_fails_fails() -> None:
    async def work() -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        await while_connected(request_of(asyncio.Queue()), work())


async def test_work_nobody_waits_for_is_cancelled() -> None:
    messages: asyncio.Queue = asyncio.Queue()
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            messages.put_nowait({"type": "http.request"})  # the end of the body: no reason to leave
            messages.put_nowait({"type": "http.disconnect"})
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(ClientDisconnect):
        await while_connected(request_of(messages), work())
    assert cancelled.is_set()


async def test_a_request_that_is_given_up_gives_up_its_work() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    task = asyncio.create_task(while_connected(request_of(asyncio.Queue()), work()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()


def test_counters_are_prometheus_text() -> None:
    counters = Counters()
    counters.active = 3
    for seconds in (0.5, 0.25):
        counters.count("/v1/files", "GET", 200, seconds)
    for method in ("SMUGGLE", 'X"'):
        counters.count("none", method, 404, 0.0)
    assert counters.page().splitlines() == [
        "# TYPE tunesmith_gateway_active_requests gauge",
        "tunesmith_gateway_active_requests 3",
        "# TYPE tunesmith_gateway_requests_total counter",
        'tunesmith_gateway_requests_total{route="/v1/files",method="GET",status="200"} 2',
        'tunesmith_gateway_requests_total{route="none",method="other",status="404"} 2',
        "# TYPE tunesmith_gateway_request_seconds_total counter",
        'tunesmith_gateway_request_seconds_total{route="/v1/files"} 0.750000',
        'tunesmith_gateway_request_seconds_total{route="none"} 0.000000',
    ]
