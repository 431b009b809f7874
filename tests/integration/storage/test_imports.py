"""ImportModel over Postgres and S3."""

import pytest
from unit.storage.import_suite import ImportSuite

pytestmark = pytest.mark.integration


class TestImports(ImportSuite):
    """All rules of the suite."""
