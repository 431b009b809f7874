"""DatasetVersionSuite over the fakes."""

from unit.storage.dataset_version_suite import DatasetVersionSuite


class TestDatasetVersion(DatasetVersionSuite):
    """All rules of the suite."""
