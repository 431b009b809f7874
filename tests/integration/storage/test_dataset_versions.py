"""DatasetVersionSuite over Postgres and S3."""

import pytest
from unit.storage.dataset_version_suite import DatasetVersionSuite

pytestmark = pytest.mark.integration


class TestDatasetVersion(DatasetVersionSuite):
    """All rules of the suite."""
