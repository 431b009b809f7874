"""ImportModel over the fakes."""

from unit.storage.import_suite import ImportSuite


class TestImports(ImportSuite):
    """All rules of the suite."""
