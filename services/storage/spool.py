"""A file on its way in: bytes go to an unnamed temporary file while their checksums are computed; used by all uploads."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from typing import BinaryIO, Self

from services.common.errors import ServiceError
from services.storage.digests import Digests


class Spool:
    """An unnamed temporary file, which the system removes even when the process is killed; close it by `with`.

    With `keep` False the bytes are only counted and hashed.
    """

    def __init__(self, *, keep: bool = True) -> None:
        self.keeps = keep
        with disk_full_reported():
            self._file = tempfile.TemporaryFile() if keep else None  # noqa: SIM115 - closed by __exit__
        self.digests = Digests()
        self.size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # What was written is of no more use, so failing to flush it is no failure.
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()

    def write(self, chunk: bytes) -> None:
        """Appends bytes; raises ServiceError (DISK_FULL)."""
        if self._file is not None:
            with disk_full_reported():
                self._file.write(chunk)
        self.digests.update(chunk)
        self.size_bytes += len(chunk)

    def content(self) -> BinaryIO:
        """The file at its start; the spool must not be written any more."""
        assert self._file is not None, "this spool keeps nothing"
        with disk_full_reported():
            self._file.flush()
        self._file.seek(0)
        return self._file

    def read_into(self, part: memoryview, offset: int) -> None:
        """Fills `part` with bytes that were written; the spool may be written meanwhile. Raises ServiceError (DISK_FULL)."""
        assert self._file is not None, "this spool keeps nothing"
        with disk_full_reported():
            self._file.flush()
        done = 0
        while done < len(part) and (count := os.preadv(self._file.fileno(), [part[done:]], offset + done)):
            done += count
        assert done == len(part), "more was asked for than was written"


@contextlib.contextmanager
def disk_full_reported() -> Iterator[None]:
    """Turns the system's "no space left" into ServiceError (DISK_FULL)."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ServiceError("DISK_FULL", f"the disk with {tempfile.gettempdir()} is full; uploads pass through it") from error
