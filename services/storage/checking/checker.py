"""Checks a dataset while it streams, in bounded memory, and tells the outcome; used by the process in `__main__`.

Memory: one row of at most 8 MiB, 100 violations, and what `fingerprints` and `labels` state.
"""

import collections
from collections.abc import Iterable, Sequence
from typing import Any

from services.common.catalogue import CATALOGUE
from services.storage.checking.array_source import ArraySource
from services.storage.checking.block import Block
from services.storage.checking.budget import Budget
from services.storage.checking.example import Batch, Format
from services.storage.checking.file_kind import BYTE_ORDER_MARK, HEAD_BYTES, is_array
from services.storage.checking.line_source import MAX_ROW_BYTES, LineSource
from services.storage.checking.outputs import DroppedOutput, RowsOutput
from services.storage.checking.plain_rows import read_plain
from services.storage.checking.problem import FileProblem, RowProblem
from services.storage.checking.row import read_row
from services.storage.checking.statistics import statistics
from services.storage.checking.tally import Tally
from services.storage.checking.warnings import warnings

MAX_VIOLATIONS = 100
_SLOWLY = 8
"""So few rows are read one by one when the fast path is in doubt about them."""
_MAX_LEADING_BLANKS = 2**20


class DatasetChecker:
    """Takes the bytes of a file in chunks cut anywhere; where they are cut makes no difference."""

    def __init__(
        self,
        rows: RowsOutput,
        dropped: DroppedOutput,
        budget: Budget,
        *,
        tally: Tally | None = None,
        max_row_bytes: int = MAX_ROW_BYTES,
    ) -> None:
        self._rows, self._dropped, self._budget = rows, dropped, budget
        self._max_row_bytes = max_row_bytes
        self._tally = tally or Tally()
        self._format: Format | None = None
        self._head = b""
        self._source: LineSource | ArraySource | None = None
        self._violations: list[dict[str, Any]] = []
        self._reasons: collections.Counter[str] = collections.Counter()
        self._size_bytes = 0
        self._exact, self._broken = True, False

    def feed(self, chunk: bytes) -> None:
        """Checks the rows that end in this chunk."""
        self._size_bytes += len(chunk)
        if self._broken:
            return
        try:
            if self._source:
                self._take(self._source.feed(chunk))
                return
            self._head += chunk
            if len(self._head.lstrip()) >= HEAD_BYTES + len(BYTE_ORDER_MARK) or len(self._head) > _MAX_LEADING_BLANKS:
                self._begin()
        except FileProblem as problem:
            self._break(problem)

    def finish(self) -> dict[str, Any]:
        """Checks the rest and tells the outcome, see `client.Outcome`; call it once."""
        try:
            if not self._broken:
                self._finish()
        except FileProblem as problem:
            self._break(problem)
        report = self._report()
        bad = self._bad_rows()
        return {
            "report": report,
            "accepted": self._acceptable(),
            "dropped_row_count": bad,
            "dropped_rows_by_reason": {} if self._broken else dict(self._reasons),
            "row_count": self._rows.row_count,
            "rows_size_bytes": self._rows.size_bytes,
            "rows_sha256": self._rows.sha256,
            "rows_equal_file": self._exact and not bad and not self._broken,
            "index": self._rows.index,
        }

    def _finish(self) -> None:
        if not self._source:
            self._begin()
        if self._source:
            self._take(self._source.finish())
        if not self._tally.row_count and not self._reasons:
            raise FileProblem("DATASET_EMPTY", "the file has no rows")

    def _begin(self) -> None:
        """Chooses how to read the file by its first bytes."""
        content = self._head.removeprefix(BYTE_ORDER_MARK)
        self._exact = content is self._head or len(content) == len(self._head)
        self._head = b""
        blanks = len(content) - len(content.lstrip())
        reads_array = is_array(content[: blanks + HEAD_BYTES])
        self._source = ArraySource(self._max_row_bytes) if reads_array else LineSource(self._max_row_bytes)
        self._take(self._source.feed(content))

    def _take(self, blocks: Iterable[Block]) -> None:
        for block in blocks:
            self._exact = self._exact and block.exact
            if block.too_long:
                self._drop(block, 0, self._too_long())
            else:
                self._check(block, 0, len(block.rows))

    def _check(self, block: Block, start: int, end: int) -> None:
        """Checks some rows of a block: all at once, or one by one, or each half for itself."""
        rows = block.rows[start:end]
        short = max(map(len, rows)) <= self._max_row_bytes
        batch = read_plain(rows, self._format, framed=block.framed) if self._format and short else None
        if batch:
            self._accept(batch, rows, block.lines[start:end])
        elif end - start <= _SLOWLY or not self._format:
            # The first good row decides the format; what follows it has a chance to be fast.
            self._check_slowly(block, start, min(end, start + _SLOWLY))
            if start + _SLOWLY < end:
                self._check(block, start + _SLOWLY, end)
        else:
            middle = (start + end) // 2
            self._check(block, start, middle)
            self._check(block, middle, end)

    def _check_slowly(self, block: Block, start: int, end: int) -> None:
        for index in range(start, end):
            try:
                batch = self._read(block.rows[index])
            except RowProblem as problem:
                self._drop(block, index, problem)
            else:
                self._accept(batch, block.rows[index : index + 1], block.lines[index : index + 1])

    def _read(self, row: bytes) -> Batch:
        if len(row) > self._max_row_bytes:
            raise self._too_long()
        return read_row(row, self._format)

    def _too_long(self) -> RowProblem:
        return RowProblem("DATASET_LINE_TOO_LONG", "", f"the row is longer than {self._max_row_bytes} bytes")

    def _accept(self, batch: Batch, rows: Sequence[bytes], lines: Sequence[int]) -> None:
        self._format = batch.format
        self._tally.add(batch, lines)
        self._rows.add(rows)

    def _drop(self, block: Block, index: int, problem: RowProblem) -> None:
        line, column, message = block.lines[index], 0, problem.message
        if problem.offset >= 0:
            line, column, further = block.place(index, problem.offset)
            if further:
                # The line of a violation is where its row begins.
                column, message = 0, f"{message} (line {line + further}, column {column})"
        violation = _violation(problem, message, line, column)
        self._note(violation)
        self._dropped.add(violation, block.rows[index])
        if not self._budget.may_cover(self._bad_rows()):
            self._stop_writing()

    def _break(self, problem: FileProblem) -> None:
        self._broken = True
        self._note(_violation(problem, problem.message, problem.line, problem.column))
        self._stop_writing()

    def _stop_writing(self) -> None:
        self._rows.stop()
        self._dropped.stop()

    def _note(self, violation: dict[str, Any]) -> None:
        self._reasons[violation["reason"]] += 1
        if len(self._violations) < MAX_VIOLATIONS:
            self._violations.append(violation)
        elif self._broken:
            # What ends the check is always told.
            self._violations[-1] = violation

    def _bad_rows(self) -> int:
        return self._reasons.total() - self._broken

    def _acceptable(self) -> bool:
        bad = self._bad_rows()
        return not self._broken and self._tally.row_count > 0 and self._budget.covers(bad, bad + self._tally.row_count)

    def _report(self) -> dict[str, Any]:
        repeats = self._tally.repeats()
        return {
            "valid": not self._reasons,
            "violations": self._violations,
            "violation_count": self._reasons.total(),
            "violations_by_reason": dict(self._reasons),
            "statistics": statistics(self._tally, repeats),
            "format": self._format.value if self._format else "FORMAT_UNSPECIFIED",
            "warnings": warnings(self._tally, repeats),
            "size_bytes": self._size_bytes,
        }


def _violation(problem: RowProblem | FileProblem, message: str, line: int, column: int) -> dict[str, Any]:
    return {
        "line": line,
        "path": _encodable(problem.path),
        "reason": problem.reason,
        "message": _encodable(message),
        "hint": problem.hint or CATALOGUE[problem.reason].hint,
        "column": column,
    }


def _encodable(text: str) -> str:
    """Half characters, which no proto can hold, are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()
