"""Checks of stored bytes over Postgres and S3."""

import pytest
from unit.storage.scrub_suite import ScrubSuite

pytestmark = pytest.mark.integration


class TestScrubbing(ScrubSuite):
    """All rules of the suite."""
