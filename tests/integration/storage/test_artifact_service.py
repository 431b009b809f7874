"""ArtifactService over Postgres and S3."""

import pytest
from unit.storage.artifact_suite import ArtifactSuite

pytestmark = pytest.mark.integration


class TestArtifactService(ArtifactSuite):
    """All rules of the suite."""
