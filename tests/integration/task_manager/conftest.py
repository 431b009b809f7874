"""The task manager over real Postgres and real gRPC."""

# ruff: noqa: E402 - the asserts of the helpers are rewritten before they are imported

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("stream_contract", "stream_model", "integration.task_manager.manager_harness")

from integration.task_manager.fake_peers import FakeStorage, FakeTrainer, serving_storage
from integration.task_manager.manager_harness import Platform, make_settings, platform_of

from services import task_manager
from services.common.postgres import Pool, migrate, open_pool


@pytest.fixture
async def pool(postgres_dsn: str) -> AsyncIterator[Pool]:
    """A migrated database."""
    await migrate(postgres_dsn, "task_manager", Path(task_manager.__file__).parent / "migrations")
    async with open_pool(postgres_dsn, application="test") as opened:
        yield opened


@pytest.fixture
def storage() -> FakeStorage:
    """What the storage service answers."""
    return FakeStorage()


@pytest.fixture
async def storage_address(storage: FakeStorage) -> AsyncIterator[str]:
    """A served fake storage."""
    async with serving_storage(storage) as address:
        yield address


@pytest.fixture
async def trainer() -> AsyncIterator[FakeTrainer]:
    """A served fake trainer with four processes."""
    fake = FakeTrainer()
    await fake.start()
    yield fake
    await fake.close()


@pytest.fixture
async def manager(postgres_dsn: str, storage_address: str, trainer: FakeTrainer) -> AsyncIterator[Platform]:
    """A running task manager with its peers."""
    async with platform_of(make_settings(postgres_dsn, storage_address, (trainer.address,)), trainer) as platform:
        yield platform
