"""DatasetTokensSuite over Postgres and S3."""

import pytest
from unit.storage.dataset_tokens_suite import DatasetTokensSuite

pytestmark = pytest.mark.integration


class TestDatasetTokens(DatasetTokensSuite):
    """All rules of the suite."""
