"""Checks a dataset while it streams, in bounded memory, and tells the outcome; used by the process in `__main__`.

Memory: one row of at most 8 MiB, 100 violations, and what `fingerprints` and `labels` state.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from services.storage.checking.array_source import ArraySource
from services.storage.checking.block import Block
from services.storage.checking.block_reader import BlockReader, too_long
from services.storage.checking.budget import Budget
from services.storage.checking.example import Batch, Format
from services.storage.checking.file_kind import BYTE_ORDER_MARK, HEAD_BYTES, is_array
from services.storage.checking.line_source import MAX_ROW_BYTES, LineSource
from services.storage.checking.outputs import DroppedOutput, RowsOutput
from services.storage.checking.problem import FileProblem, RowProblem
from services.storage.checking.statistics import statistics
from services.storage.checking.tally import Tally
from services.storage.checking.violations import Violations
from services.storage.checking.warnings import warnings

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
        self._reader = BlockReader(max_row_bytes)
        self._tally = tally or Tally()
        self._format: Format | None = None
        self._head = b""
        self._source: LineSource | ArraySource | None = None
        self._violations = Violations()
        self._size_bytes = 0
        self._exact = True

    def feed(self, chunk: bytes) -> None:
        """Checks the rows that end in this chunk."""
        self._size_bytes += len(chunk)
        if self._violations.broken:
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
            if not self._violations.broken:
                self._finish()
        except FileProblem as problem:
            self._break(problem)
        report = self._report()
        bad = self._violations.bad_rows
        return {
            "report": report,
            "accepted": self._acceptable(),
            "dropped_row_count": bad,
            "dropped_rows_by_reason": {} if self._violations.broken else dict(self._violations.reasons),
            "row_count": self._rows.row_count,
            "rows_size_bytes": self._rows.size_bytes,
            "rows_sha256": self._rows.sha256,
            "rows_equal_file": self._exact and not bad and not self._violations.broken,
            "index": self._rows.index,
        }

    def _finish(self) -> None:
        if not self._source:
            self._begin()
        if self._source:
            self._take(self._source.finish())
        if not self._tally.row_count and not self._violations.reasons:
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
                self._drop(block, 0, too_long(self._max_row_bytes))
            else:
                self._check(block)

    def _check(self, block: Block) -> None:
        rows = block.rows
        for index, found in self._reader.read(rows, self._format, framed=block.framed):
            if isinstance(found, RowProblem):
                self._drop(block, index, found)
            else:
                end = index + len(found.texts)
                self._accept(found, rows[index:end], block.lines[index:end])

    def _accept(self, batch: Batch, rows: Sequence[bytes], lines: Sequence[int]) -> None:
        self._format = batch.format
        self._tally.add(batch, lines)
        self._rows.add(rows)

    def _drop(self, block: Block, index: int, problem: RowProblem) -> None:
        self._dropped.add(self._violations.add_row(block, index, problem), block.rows[index])
        if not self._budget.may_cover(self._violations.bad_rows):
            self._stop_writing()

    def _break(self, problem: FileProblem) -> None:
        self._violations.add_file(problem)
        self._stop_writing()

    def _stop_writing(self) -> None:
        self._rows.stop()
        self._dropped.stop()

    def _acceptable(self) -> bool:
        bad = self._violations.bad_rows
        return not self._violations.broken and self._tally.row_count > 0 and self._budget.covers(bad, bad + self._tally.row_count)

    def _report(self) -> dict[str, Any]:
        repeats = self._tally.repeats()
        return {
            "valid": not self._violations.reasons,
            "violations": self._violations.listed,
            "violation_count": self._violations.reasons.total(),
            "violations_by_reason": dict(self._violations.reasons),
            "statistics": statistics(self._tally, repeats),
            "format": self._format.value if self._format else "FORMAT_UNSPECIFIED",
            "warnings": warnings(self._tally, repeats),
            "size_bytes": self._size_bytes,
        }
