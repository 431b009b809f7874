"""The object store in memory."""

from unit.storage.object_store_suite import ObjectStoreSuite


class TestObjectStore(ObjectStoreSuite):
    """All rules of the suite."""
