"""Checks of stored bytes over the fakes."""

from unit.storage.scrub_suite import ScrubSuite


class TestScrubbing(ScrubSuite):
    """All rules of the suite."""
