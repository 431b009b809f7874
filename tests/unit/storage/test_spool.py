"""Bytes on their way in are kept, measured and cleared away."""

import errno

import pytest
from unit.storage.service import checksums, sha256

from services.common.errors import ServiceError
from services.storage.spool import Spool, disk_full_reported


def test_what_was_written_is_read_and_measured() -> None:
    with Spool() as spool:
        for chunk in (b"one ", b"", b"two"):
            spool.write(chunk)
        assert spool.size_bytes == 7
        assert {"sha256": spool.digests.sha256, "blake3": spool.digests.blake3} == checksums(b"one two")
        assert spool.content().read() == b"one two"
        assert spool.content().read(3) == b"one"


def part_of(spool: Spool, offset: int, size_bytes: int) -> bytes:
    part = bytearray(size_bytes)
    spool.read_into(memoryview(part), offset)
    return bytes(part)


def test_parts_are_read_while_more_is_written() -> None:
    with Spool() as spool:
        spool.write(b"one two")
        assert part_of(spool, 2, 3) == b"e t"
        spool.write(b" three")
        assert (part_of(spool, 7, 6), part_of(spool, 11, 2), part_of(spool, 13, 0)) == (b" three", b"ee", b"")
        with pytest.raises(AssertionError, match="more was asked for"):
            part_of(spool, 11, 9)
        assert (spool.size_bytes, spool.digests.sha256) == (13, sha256(b"one two three"))


def test_nothing_is_left_after_the_block() -> None:
    with Spool() as spool:
        spool.write(b"x")
        content = spool.content()
    assert content.closed


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_as_such(number: int) -> None:
    with pytest.raises(ServiceError) as caught, disk_full_reported():
        raise OSError(number, "no space")
    assert caught.value.reason == "DISK_FULL"


def test_other_failures_of_the_disk_are_not_hidden() -> None:
    with pytest.raises(PermissionError), disk_full_reported():
        raise PermissionError(errno.EACCES, "no")
