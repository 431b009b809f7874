"""Callers that verify files themselves, over Postgres and S3."""

import pytest
from unit.storage.transfer_suite import TransferSuite

pytestmark = pytest.mark.integration


class TestTransfers(TransferSuite):
    """All rules of the suite."""
