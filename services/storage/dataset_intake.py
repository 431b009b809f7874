"""A file on its way through the checker: every chunk goes to a process that reads rows, and to disk; used by the uploads."""

import contextlib
import dataclasses
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from typing import BinaryIO, Protocol

from services.common.blocking import in_thread
from services.common.errors import ServiceError
from services.storage.check_outcome import CheckOutcome
from services.storage.checking.budget import Budget
from services.storage.dataset import DROPPED, ORIGINAL, ROWS, DatasetHeader
from services.storage.digests import Digests
from services.storage.file import File
from services.storage.object_store import CHUNK_BYTES
from services.storage.spool import Spool, disk_full_reported


class Checker(Protocol):
    """A running check."""

    async def feed(self, chunk: bytes) -> None:
        """Takes the next bytes; raises ServiceError (CHECKER_FAILED)."""

    async def finish(self) -> CheckOutcome:
        """Says that the file is whole; raises ServiceError (CHECKER_FAILED)."""


StartChecker = Callable[[BinaryIO | None, BinaryIO | None, Budget], contextlib.AbstractAsyncContextManager[Checker]]
"""Starts a check that writes usable rows to the first file and left-out rows to the second."""


@dataclasses.dataclass(frozen=True, slots=True)
class AcceptedFile:
    """What is to be stored of a file that passed."""

    outcome: CheckOutcome
    files: tuple[File, ...]
    """ORIGINAL, ROWS and, when rows were left out, DROPPED."""
    contents: Mapping[str, BinaryIO]
    """What the store lacks, by SHA-256; each at its start."""


class DatasetIntake:
    """Checks files while they stream, in constant memory."""

    def __init__(self, start_checker: StartChecker) -> None:
        self._start_checker = start_checker

    async def report(self, chunks: AsyncIterator[bytes]) -> CheckOutcome:
        """The outcome for a file; nothing is kept. Raises ServiceError (CHECKER_FAILED)."""
        async with self._start_checker(None, None, Budget()) as checker:
            async for chunk in chunks:
                await checker.feed(chunk)
            return await checker.finish()

    @contextlib.asynccontextmanager
    async def accepted(
        self, header: DatasetHeader, chunks: AsyncIterator[bytes], *, keep_original: bool
    ) -> AsyncIterator[AcceptedFile]:
        """The file, checked and on disk inside the block; `keep_original` is False when the store has it already.

        Raises ServiceError: CHECKSUM_MISMATCH, DATASET_INVALID and its kin, DISK_FULL, CHECKER_FAILED.
        """
        with Spool(keep=keep_original) as original, _scratch() as rows, _scratch() as dropped:
            async with self._start_checker(rows, dropped, header.budget) as checker:
                async for chunk in chunks:
                    await in_thread(original.write, chunk)
                    await checker.feed(chunk)
                outcome = await checker.finish()
            _refuse_other(header.sha256, original.digests.sha256)
            if outcome.refusal is not None:
                raise outcome.refusal
            yield await in_thread(_accepted, outcome, original, rows, dropped)


def _refuse_other(declared: str, arrived: str) -> None:
    if declared and declared != arrived:
        message = f"the file arrived with SHA-256 {arrived}, the header says {declared}"
        raise ServiceError("CHECKSUM_MISMATCH", message)


def _accepted(outcome: CheckOutcome, original: Spool, rows: BinaryIO, dropped: BinaryIO) -> AcceptedFile:
    files = [File(ORIGINAL, original.size_bytes, original.digests.sha256, original.digests.blake3)]
    contents: dict[str, BinaryIO] = {files[0].sha256: original.content()} if original.keeps else {}
    if outcome.rows_equal_file:
        files.append(dataclasses.replace(files[0], path=ROWS))
    else:
        files.append(File(ROWS, outcome.rows_size_bytes, outcome.rows_sha256))
        contents[outcome.rows_sha256] = _at_start(rows)
    if outcome.dropped_rows_by_reason:
        files.append(_described(DROPPED, dropped))
        contents[files[-1].sha256] = _at_start(dropped)
    return AcceptedFile(outcome, tuple(files), contents)


def _described(path: str, content: BinaryIO) -> File:
    digests = Digests()
    _at_start(content)
    while chunk := content.read(CHUNK_BYTES):
        digests.update(chunk)
    return File(path, content.tell(), digests.sha256, digests.blake3)


def _at_start(content: BinaryIO) -> BinaryIO:
    # The checker's process wrote through the same open file, so position and length are its doing.
    content.seek(0)
    return content


def _scratch() -> BinaryIO:
    """An unnamed temporary file."""
    with disk_full_reported():
        return tempfile.TemporaryFile()
