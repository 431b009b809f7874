"""Objects of any size fit into the parts that S3 takes."""

import pytest

from services.storage.object_store import part_bytes

MIB = 2**20


@pytest.mark.parametrize(
    ("size", "part"), [(0, 8), (1, 8), (80_000 * MIB, 8), (80_000 * MIB + 1, 9), (160_000 * MIB, 16), (160_000 * MIB + 1, 17)]
)
def test_parts_are_small_and_few_enough(size: int, part: int) -> None:
    assert part_bytes(size) == part * MIB
    assert size <= 10_000 * part_bytes(size)
