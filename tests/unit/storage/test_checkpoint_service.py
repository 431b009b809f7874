"""Checkpoints in the fakes, and the rules by themselves."""

import uuid

import pytest
from unit.storage.checkpoint_suite import CheckpointSuite, task  # noqa: F401 - a fixture

from services.storage.checkpoint_retention import Kept, superseded


class TestCheckpoints(CheckpointSuite):
    """All rules of the suite."""


def kept(number: int, loss: float | None = None, *, labelled: bool = False, in_use: bool = False) -> Kept:
    return Kept(uuid.UUID(int=number), labelled, loss, in_use)


@pytest.mark.parametrize(
    ("newest_first", "limit", "gone"),
    [
        ([], 1, []),
        ([kept(1)], 1, []),
        ([kept(3), kept(2), kept(1)], 1, [2, 1]),
        ([kept(3), kept(2), kept(1)], 5, []),
        ([kept(3), kept(2, 0.1), kept(1, 0.2)], 1, [1]),
        ([kept(3, 0.1), kept(2, 0.1)], 1, []),
        ([kept(3), kept(2, labelled=True), kept(1, in_use=True)], 1, []),
        ([kept(3, 0.0), kept(2, -1.0), kept(1, 0.5)], 1, [1]),
    ],
    ids=range(8),
)
def test_what_is_superseded(newest_first: list[Kept], limit: int, gone: list[int]) -> None:
    assert [identifier.int for identifier in superseded(newest_first, limit)] == gone
