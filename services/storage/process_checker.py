"""Checks in the checking process, with its answers as domain values; given to the dataset intake by `__main__`."""

import contextlib
from collections.abc import AsyncIterator
from typing import BinaryIO

from google.protobuf import json_format

from services.storage.check_outcome import CheckOutcome
from services.storage.checking.budget import Budget
from services.storage.checking.client import CheckerProcess
from services.storage.checking.refusal import refusal
from services.storage.dataset import RowIndex


class ProcessChecker:
    """A check in a process of its own."""

    def __init__(self, process: CheckerProcess, budget: Budget) -> None:
        self._process, self._budget = process, budget

    async def feed(self, chunk: bytes) -> None:
        """Takes the next bytes; raises ServiceError (CHECKER_FAILED, DISK_FULL)."""
        await self._process.feed(chunk)

    async def finish(self) -> CheckOutcome:
        """Says that the file is whole; raises ServiceError (CHECKER_FAILED, DISK_FULL)."""
        outcome = await self._process.finish()
        return CheckOutcome(
            report=json_format.MessageToDict(outcome.report),
            refusal=None if outcome.accepted else refusal(outcome.report, self._budget),
            dropped_rows_by_reason=outcome.dropped_rows_by_reason,
            row_count=outcome.row_count,
            rows_size_bytes=outcome.rows_size_bytes,
            rows_sha256=outcome.rows_sha256,
            rows_equal_file=outcome.rows_equal_file,
            index=RowIndex(outcome.index_every, outcome.index_offsets),
        )


@contextlib.asynccontextmanager
async def start_checker(rows: BinaryIO | None, dropped: BinaryIO | None, budget: Budget) -> AsyncIterator[ProcessChecker]:
    """Starts a process that writes usable rows to the first file and left-out rows to the second."""
    async with CheckerProcess.start(rows, dropped, budget) as process:
        yield ProcessChecker(process, budget)
