"""Checks of stored bytes over the fakes."""

from unit.storage.scrub_suite import DownloadSuite, ScrubSuite


class TestScrubbing(ScrubSuite):
    """All rules of the suite."""


class TestDownloads(DownloadSuite):
    """All rules of the suite."""
