"""Downloads straight from the object store, in Postgres and S3."""

import pytest
from unit.storage.signed_download_suite import SignedDownloadSuite

pytestmark = pytest.mark.integration


class TestSignedDownloads(SignedDownloadSuite):
    """All rules of the suite."""
