"""Checkpoints in Postgres and S3."""

import pytest
from unit.storage.checkpoint_suite import CheckpointSuite, task  # noqa: F401 - a fixture

pytestmark = pytest.mark.integration


class TestCheckpoints(CheckpointSuite):
    """All rules of the suite."""
