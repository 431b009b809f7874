"""Which versions of trainer and task manager work together."""

import pytest

from services.task_manager.domain.versions import is_compatible


@pytest.mark.parametrize(
    ("own", "other", "fits"),
    [
        ("0.1.0", "0.1.0", True),
        ("0.1.0", "0.1.7", True),
        ("0.1.0", "0.2.0", False),
        ("0.1.0", "1.1.0", False),
        ("1.2.0", "1.9.3", True),
        ("1.2.0", "2.2.0", False),
        ("0.1.0", "", True),
    ],
)
def test_versions_fit_by_what_semantic_versioning_promises(own: str, other: str, fits: bool) -> None:
    assert is_compatible(own, other) is fits
