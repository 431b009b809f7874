"""The object store in memory."""

import pytest
from unit.storage.fakes import MemoryObjectStore
from unit.storage.object_store_suite import ObjectStoreSuite


@pytest.fixture
async def strict_store(store: MemoryObjectStore) -> MemoryObjectStore:
    await store.probe()
    return store


class TestObjectStore(ObjectStoreSuite):
    """All rules of the suite."""
