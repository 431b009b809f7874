"""The service over the fakes."""

import datetime
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from unit.storage.fakes import Clock, MemoryObjectStore, memory_repositories
from unit.storage.server_import_suite import places_of
from unit.storage.service import Service, running_service


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def advance(clock: Clock) -> Callable[[datetime.timedelta], Awaitable[None]]:
    """Moves the clock of retention, forwards or backwards."""

    async def advance(by: datetime.timedelta) -> None:
        clock.time += by

    return advance


@pytest.fixture
def store() -> MemoryObjectStore:
    return MemoryObjectStore()


@pytest.fixture
async def service(clock: Clock, store: MemoryObjectStore, tmp_path: pathlib.Path) -> AsyncIterator[Service]:
    async def keys() -> set[str]:
        return set(store.objects)

    async with running_service(memory_repositories(clock), store, keys, server_places=places_of(tmp_path, store)) as service:
        yield service


@pytest.fixture
def send_part(store: MemoryObjectStore) -> Callable[[str, bytes], Awaitable[None]]:
    return store.send_part


@pytest.fixture
def read_by_url(store: MemoryObjectStore) -> Callable[[str], Awaitable[bytes]]:
    return store.read_by_url
