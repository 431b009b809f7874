"""Retention over the fakes."""

from unit.storage.retention_suite import RetentionSuite


class TestRetention(RetentionSuite):
    """All rules of the suite."""
