"""Models that the server reads itself, over Postgres, a real disk and S3."""

import pytest
from unit.storage.server_import_suite import ServerImportSuite

pytestmark = pytest.mark.integration


class TestServerImports(ServerImportSuite):
    """All rules of the suite."""
