"""Bytes are compared by the checksum that costs least of those that are known."""

import hashlib
import random

import pytest
from blake3 import blake3

from tunesmith.checksum import Checksum
from tunesmith.v1.artifact_pb2 import File

DATA = random.Random(3).randbytes(5000)
SHA256 = hashlib.sha256(DATA).hexdigest()
BLAKE3 = blake3(DATA).hexdigest()
OTHER = "ab" * 32

KNOWN = [Checksum(SHA256), Checksum(SHA256, BLAKE3), Checksum(blake3=BLAKE3)]


def test_it_is_blake3_as_everybody_computes_it() -> None:
    # The first vector of https://github.com/BLAKE3-team/BLAKE3/blob/master/test_vectors/test_vectors.json
    assert Checksum(blake3="af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262").fits(b"")


@pytest.mark.parametrize("checksum", KNOWN)
@pytest.mark.parametrize("size", [1, 7, 1024, 5000])
def test_the_right_bytes_fit_however_they_come(checksum: Checksum, size: int) -> None:
    comparison = checksum.begin()
    for start in range(0, len(DATA), size):
        assert not comparison.fits, "before all have come"
        comparison.update(memoryview(DATA)[start : start + size])
    assert comparison.fits


@pytest.mark.parametrize("checksum", KNOWN)
@pytest.mark.parametrize("content", [b"", DATA[:-1], DATA + b"x", DATA[::-1], b"?" + DATA[1:]])
def test_other_bytes_do_not(checksum: Checksum, content: bytes) -> None:
    assert not checksum.fits(content)


def test_where_blake3_is_known_nothing_else_is_compared() -> None:
    assert Checksum(OTHER, BLAKE3).fits(DATA)
    assert not Checksum(SHA256, OTHER).fits(DATA)


@pytest.mark.parametrize("content", [b"", DATA])
def test_where_nothing_is_known_anything_fits(content: bytes) -> None:
    assert Checksum().fits(content)


def test_a_difference_names_the_checksum_and_both_values() -> None:
    assert Checksum(OTHER).begin().difference == f"SHA-256 {hashlib.sha256().hexdigest()}, expected {OTHER}"
    assert Checksum(SHA256, OTHER).begin().difference == f"BLAKE3 {blake3().hexdigest()}, expected {OTHER}"


@pytest.mark.parametrize("blake3", ["", BLAKE3])
def test_a_file_tells_its_checksums(blake3: str) -> None:
    assert Checksum.of(File(path="a", sha256=SHA256, blake3=blake3)) == Checksum(SHA256, blake3)
