"""DatasetService over the fakes."""

from unit.storage.dataset_suite import DatasetSuite


class TestDatasetService(DatasetSuite):
    """All rules of the suite."""
