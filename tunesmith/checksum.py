"""The checksum by which the bytes of a file are verified; used by clients and services wherever bytes arrive."""

import dataclasses
import hashlib
from typing import Protocol, Self

from blake3 import blake3

Chunk = bytes | bytearray | memoryview


class Sums(Protocol):
    """A file whose checksums are known; an empty one is not."""

    @property
    def sha256(self) -> str:
        """SHA-256, lower-case hexadecimal."""

    @property
    def blake3(self) -> str:
        """BLAKE3 of 256 bits, lower-case hexadecimal."""


@dataclasses.dataclass(frozen=True, slots=True)
class Checksum:
    """What the bytes of a file have to have: BLAKE3 where it is known, which costs least, else SHA-256."""

    sha256: str = ""
    blake3: str = ""

    @classmethod
    def of(cls, file: Sums) -> Self:
        """The checksums of a file."""
        return cls(file.sha256, file.blake3)

    def begin(self) -> "Comparison":
        """A comparison with bytes that are about to come."""
        return Comparison(self)

    def fits(self, content: Chunk) -> bool:
        """Whether bytes that are there as a whole have it."""
        comparison = self.begin()
        comparison.update(content)
        return comparison.fits


class Comparison:
    """Takes bytes in their order and says whether they have the checksum; without one, any do."""

    def __init__(self, checksum: Checksum) -> None:
        self._name = "BLAKE3" if checksum.blake3 else "SHA-256"
        self._expected = checksum.blake3 or checksum.sha256
        self._digest = blake3() if checksum.blake3 else hashlib.sha256()

    def update(self, chunk: Chunk) -> None:
        """The next bytes."""
        self._digest.update(chunk)

    @property
    def fits(self) -> bool:
        """Whether all bytes so far are those of the file."""
        return not self._expected or self._digest.hexdigest() == self._expected

    @property
    def difference(self) -> str:
        """What came and what was expected, for messages: `SHA-256 …, expected …`."""
        return f"{self._name} {self._digest.hexdigest()}, expected {self._expected}"
