"""DatasetService over Postgres and S3."""

import pytest
from unit.storage.dataset_suite import DatasetSuite

pytestmark = pytest.mark.integration


class TestDatasetService(DatasetSuite):
    """All rules of the suite."""
