"""ImportModel over the fakes."""

from unit.storage.import_suite import HostileImportSuite, ImportSuite


class TestImports(ImportSuite):
    """All rules of the suite."""


class TestHostileImports(HostileImportSuite):
    """All rules of the suite."""
