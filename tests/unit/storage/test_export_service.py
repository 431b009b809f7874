"""Exports and the registry over the fakes."""

from unit.storage.export_stream_suite import ExportStreamSuite
from unit.storage.export_suite import ExportSuite


class TestExport(ExportSuite):
    """All rules of the suite."""


class TestExportStream(ExportStreamSuite):
    """All rules of the suite."""
