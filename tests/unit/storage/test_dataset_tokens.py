"""DatasetTokensSuite over the fakes."""

from unit.storage.dataset_tokens_suite import DatasetTokensSuite


class TestDatasetTokens(DatasetTokensSuite):
    """All rules of the suite."""
