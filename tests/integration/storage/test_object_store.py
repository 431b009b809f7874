"""The object store in S3."""

import pytest
from unit.storage.object_store_suite import ObjectStoreSuite

from services.storage.object_store import MinioObjectStore

pytestmark = pytest.mark.integration


@pytest.fixture
async def strict_store(store: MinioObjectStore) -> MinioObjectStore:
    await store.probe()
    return store


class TestObjectStore(ObjectStoreSuite):
    """All rules of the suite."""
