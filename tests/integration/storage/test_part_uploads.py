"""PartUploadSuite over Postgres and S3."""

import pytest
from unit.storage.part_upload_suite import PartUploadSuite

pytestmark = pytest.mark.integration


class TestPartUpload(PartUploadSuite):
    """All rules of the suite."""
