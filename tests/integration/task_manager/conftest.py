"""The task manager over real Postgres and real gRPC."""

# ruff: noqa: E402 - the asserts of the helpers are rewritten before they are imported

from collections.abc import AsyncIterator, Iterator

import pytest

pytest.register_assert_rewrite("stream_contract", "stream_model", "integration.task_manager.manager_harness")

from embedded import fresh_database, migrated_template
from integration.task_manager.fake_peers import FakeStorage, FakeTrainer, serving_storage
from integration.task_manager.manager_harness import Platform, make_settings, platform_of

from services import task_manager
from services.common.postgres import Pool, open_pool
from tunesmith.local.postgres import Cluster


@pytest.fixture(scope="session")
def template(postgres_server: Cluster) -> str:
    """The database that every test has a copy of."""
    return migrated_template(postgres_server, task_manager)


@pytest.fixture
def postgres_dsn(postgres_server: Cluster, template: str) -> Iterator[str]:
    """URL of a fresh database with the task manager's tables."""
    with fresh_database(postgres_server, template) as dsn:
        yield dsn


@pytest.fixture
async def pool(postgres_dsn: str) -> AsyncIterator[Pool]:
    """A migrated database."""
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
