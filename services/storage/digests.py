"""Both checksums of a file that arrives, computed in one pass; used by spool and passage."""

import hashlib

from blake3 import blake3


class Digests:
    """SHA-256, by which a content is known, and BLAKE3, by which it is verified when it is read: that costs a tenth."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._blake3 = blake3()

    def update(self, chunk: bytes) -> None:
        """The next bytes."""
        self._sha256.update(chunk)
        self._blake3.update(chunk)

    @property
    def sha256(self) -> str:
        """Of all bytes so far, lower-case hexadecimal."""
        return self._sha256.hexdigest()

    @property
    def blake3(self) -> str:
        """Of all bytes so far, 256 bits, lower-case hexadecimal."""
        return self._blake3.hexdigest()
