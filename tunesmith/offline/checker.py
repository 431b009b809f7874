"""The check of a file by the very checker of the storage service; used by `tunesmith data check` and `preview`."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from google.protobuf.json_format import ParseDict

from tunesmith.offline.child import failure, run
from tunesmith.transfers import Progress, chunks_of, require_file
from tunesmith.v1.dataset_pb2 import DatasetReport

_MODULE = "services.storage.checking"
_ANY_RATIO = 0.999999


@dataclass(frozen=True, slots=True)
class Check:
    """What came out. `accepted`: an upload with the same budget would be stored."""

    report: DatasetReport
    accepted: bool
    dropped_row_count: int = 0


def check(
    path: Path,
    *,
    max_invalid_rows: int | None = None,
    max_invalid_ratio: float | None = None,
    rows: IO[bytes] | None = None,
    progress: Progress | None = None,
) -> Check:
    """Check a file; usable rows are written to the file `rows`, one JSON object a line.

    Raises:
        TunesmithError: CHECKER_FAILED. InvalidArgument: FILE_NOT_FOUND.
    """
    return _run(chunks_of(require_file(path), progress), rows, max_invalid_rows, max_invalid_ratio)


def rows_from(path: Path, wanted: range) -> tuple[list[bytes], Check]:
    """The usable rows with these numbers, from 1; the file is read no further than they stand, and so is the check."""
    with tempfile.NamedTemporaryFile() as rows:
        checked = _run(_until(Path(rows.name), wanted.stop, chunks_of(path)), rows.file, None, _ANY_RATIO)
        rows.seek(0)
        return [line for number, line in enumerate(rows, start=1) if number in wanted], checked


def _until(rows: Path, enough: int, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks until so many rows have come out."""
    there = 0
    with rows.open("rb") as source:
        for chunk in chunks:
            there += source.read().count(b"\n")
            if there >= enough:
                return
            yield chunk


def _run(chunks: Iterator[bytes], rows: IO[bytes] | None, max_rows: int | None, max_ratio: float | None) -> Check:
    descriptors = [rows.fileno()] if rows else []
    given = {"--rows-fd": rows.fileno() if rows else None, "--max-invalid-rows": max_rows, "--max-invalid-ratio": max_ratio}
    arguments = [f"{option}={value}" for option, value in given.items() if value is not None]
    ending = run(_MODULE, arguments, chunks, descriptors)
    if ending.exit_code:
        raise failure("CHECKER_FAILED", "the checker", ending)
    said = json.loads(ending.stdout.splitlines()[-1])
    report = ParseDict(said["report"], DatasetReport(), ignore_unknown_fields=True)
    return Check(report, bool(said["accepted"]), int(said.get("dropped_row_count", 0)))
