"""ArtifactService over the fakes."""

from unit.storage.artifact_suite import ArtifactSuite


class TestArtifactService(ArtifactSuite):
    """All rules of the suite."""
