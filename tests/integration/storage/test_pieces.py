"""PieceSuite over Postgres and S3."""

import pytest
from unit.storage.piece_suite import PieceSuite

pytestmark = pytest.mark.integration


class TestPieces(PieceSuite):
    """All rules of the suite."""
