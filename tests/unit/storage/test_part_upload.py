"""How a file is cut into parts, and which are missing."""

import itertools

import pytest

from services.storage.part_upload import MAX_FILE_BYTES, MAX_PARTS, MIN_PART_BYTES, missing_parts, parts_of


@pytest.mark.parametrize(
    "size", [1, MIN_PART_BYTES - 1, MIN_PART_BYTES, MIN_PART_BYTES + 1, 10**10, 123_456_789_012, MAX_FILE_BYTES]
)
def test_parts_cover_the_file_without_gap_and_are_few_and_big_enough(size: int) -> None:
    parts = list(parts_of(size))
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert parts[0].offset == 0
    for part, following in itertools.pairwise(parts):
        assert part.offset + part.size_bytes == following.offset
        assert part.size_bytes >= MIN_PART_BYTES
    assert parts[-1].offset + parts[-1].size_bytes == size
    assert len(parts) <= MAX_PARTS
    assert len({part.size_bytes for part in parts[:-1]}) <= 1


def test_a_part_is_missing_until_exactly_its_bytes_have_arrived() -> None:
    size = 2 * MIN_PART_BYTES + 5
    everything = [(1, MIN_PART_BYTES), (2, MIN_PART_BYTES), (3, 5)]
    assert missing_parts(size, everything) == []
    assert [part.number for part in missing_parts(size, everything[1:])] == [1]
    assert [part.number for part in missing_parts(size, [(1, 4), *everything[1:]])] == [1]
    assert missing_parts(size, [(1, 4), *everything]) == []
    assert len(missing_parts(size, [])) == 3
