"""PartUploadSuite over the fakes."""

from unit.storage.part_upload_suite import PartUploadSuite


class TestPartUpload(PartUploadSuite):
    """All rules of the suite."""
