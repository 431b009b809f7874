"""Runs the checking process and feeds it; used by the dataset upload."""

import asyncio
import dataclasses
import errno
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from google.protobuf import json_format

from services.common.errors import ServiceError
from services.storage.checking.budget import Budget
from tunesmith.v1 import dataset_pb2

_SHOWN_OF_STDERR = 500


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What the process says of a file."""

    report: dataset_pb2.DatasetReport
    accepted: bool
    """Every row is good, or the budget covers the bad ones; only then what was written of the rows is complete."""
    dropped_row_count: int
    """Bad rows."""
    dropped_rows_by_reason: Mapping[str, int]
    row_count: int
    """Usable rows."""
    rows_size_bytes: int
    rows_sha256: str
    """SHA-256 of the usable rows, one a line."""
    rows_equal_file: bool
    """The usable rows are byte for byte the file, so that it need not be stored twice."""
    index_every: int
    index_offsets: Sequence[int]
    """Where row 1, 1 + `index_every`, 1 + 2 `index_every`, … begin in the usable rows; at most 4,096."""


class CheckerProcess:
    """One check. Use `start` in a with block; leaving it ends the process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._output = asyncio.create_task(_read(process.stdout))
        self._errors = asyncio.create_task(_read(process.stderr))

    @staticmethod
    def start(rows: BinaryIO | None = None, dropped: BinaryIO | None = None, budget: Budget | None = None) -> "_Starting":
        """A context manager that starts the process; usable rows go to the file `rows`, left-out ones to `dropped`."""
        return _Starting(rows, dropped, budget or Budget())

    async def feed(self, chunk: bytes) -> None:
        """Sends the next bytes; waits while the process is behind. Raises ServiceError (CHECKER_FAILED, DISK_FULL)."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(chunk)
            await stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise await self._failure() from error

    async def finish(self) -> Outcome:
        """The outcome, once all bytes were sent. Raises ServiceError (CHECKER_FAILED, DISK_FULL)."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.close()
        output = await self._output
        if await self._process.wait():
            raise await self._failure()
        try:
            return _outcome(json.loads(output))
        except (ValueError, KeyError, json_format.ParseError) as error:
            raise ServiceError("CHECKER_FAILED", f"the checking process said what cannot be read: {error}") from error

    async def close(self) -> None:
        """Ends the process if it still runs."""
        if self._process.returncode is None:
            self._process.kill()
        if self._process.stdin:
            self._process.stdin.close()
        await asyncio.gather(self._process.wait(), self._output, self._errors)

    async def _failure(self) -> ServiceError:
        code = await self._process.wait()
        said = (await self._errors).decode("utf-8", "replace").strip()
        if code == errno.ENOSPC:
            return ServiceError("DISK_FULL", f"the disk is full; uploads pass through it: {said}")
        cause = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return ServiceError("CHECKER_FAILED", f"the checking process {cause}" + (f": {said[-_SHOWN_OF_STDERR:]}" if said else ""))


class _Starting:
    """Starts the process when entered, ends it when left."""

    def __init__(self, rows: BinaryIO | None, dropped: BinaryIO | None, budget: Budget) -> None:
        self._files = {"--rows-fd": rows, "--dropped-fd": dropped}
        self._budget = budget
        self._checker: CheckerProcess | None = None

    async def __aenter__(self) -> CheckerProcess:
        descriptors = {option: file.fileno() for option, file in self._files.items() if file is not None}
        limits = {"--max-invalid-rows": self._budget.max_rows, "--max-invalid-ratio": self._budget.max_ratio}
        options = descriptors | {option: limit for option, limit in limits.items() if limit is not None}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.storage.checking",
            *(f"{option}={value}" for option, value in options.items()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=tuple(descriptors.values()),
            start_new_session=True,
        )
        self._checker = CheckerProcess(process)
        return self._checker

    async def __aexit__(self, *_: object) -> None:
        if self._checker:
            # A second cancellation must not leave the process behind.
            await asyncio.shield(self._checker.close())


async def _read(stream: asyncio.StreamReader | None) -> bytes:
    assert stream is not None
    return await stream.read()


def _outcome(said: dict[str, Any]) -> Outcome:
    report = json_format.ParseDict(said.pop("report"), dataset_pb2.DatasetReport())
    index = said.pop("index")
    return Outcome(report=report, index_every=index["every"], index_offsets=index["offsets"], **said)
