"""The object store in S3."""

import pytest
from unit.storage.object_store_suite import ObjectStoreSuite

pytestmark = pytest.mark.integration


class TestObjectStore(ObjectStoreSuite):
    """All rules of the suite."""
