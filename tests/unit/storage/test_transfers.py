"""Callers that verify files themselves, over the fakes."""

from unit.storage.transfer_suite import TransferSuite


class TestTransfers(TransferSuite):
    """All rules of the suite."""
