"""A gateway before scripted services: `http` asks it in this process, `served` is one that listens."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest

from services.common.config import Secret
from services.gateway.__main__ import Server, listening, server_config
from services.gateway.app import make_app
from services.gateway.peers import connected
from services.gateway.settings import GatewaySettings
from tests.ports import free_port
from tests.unit.gateway.frozen_contract import check

KEY = "sk-test"
AUTHORIZED = {"authorization": f"Bearer {KEY}"}


@pytest.fixture
def settings(platform) -> GatewaySettings:
    addresses = {f"{name}_address": platform.address for name in ("task_manager", "storage", "inference")}
    return GatewaySettings(listen=f"127.0.0.1:{free_port()}", api_key=Secret(KEY), **addresses)


@contextlib.asynccontextmanager
async def asking(settings: GatewaySettings) -> AsyncIterator[httpx2.AsyncClient]:
    async with connected(settings) as peers:
        transport = httpx2.ASGITransport(app=make_app(settings, peers), raise_app_exceptions=False)
        hooks = {"response": [_checked]}
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://gateway", headers=AUTHORIZED, event_hooks=hooks
        ) as client:
            yield client


async def _checked(response: httpx2.Response) -> None:
    """Every answer is as the frozen contract says."""
    await response.aread()
    request = response.request
    check(request.method, request.url.path, response.status_code, response.headers.get("content-type", ""), response.text)


@pytest.fixture
async def http(settings) -> AsyncIterator[httpx2.AsyncClient]:
    async with asking(settings) as client:
        yield client


@pytest.fixture
def changed(settings) -> Callable[..., contextlib.AbstractAsyncContextManager[httpx2.AsyncClient]]:
    """A client of a gateway with other settings."""
    return lambda **changes: asking(dataclasses.replace(settings, **changes))


@contextlib.asynccontextmanager
async def serving(settings: GatewaySettings) -> AsyncIterator[httpx2.AsyncClient]:
    with listening(settings.listen) as listener:
        async with connected(settings) as peers:
            server = Server(server_config(settings, make_app(settings, peers)))
            running = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                async with httpx2.AsyncClient(base_url=f"http://{settings.listen}", headers=AUTHORIZED, timeout=30) as client:
                    yield client
            finally:
                server.should_exit = True
                await running


@pytest.fixture
async def served(settings) -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(settings) as client:
        yield client
