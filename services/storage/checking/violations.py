"""What is wrong with a dataset, so far as it is told; kept by `checker`."""

import collections
from typing import Any

from services.common.catalogue import CATALOGUE
from services.common.encodable import encodable
from services.storage.checking.block import Block
from services.storage.checking.problem import FileProblem, RowProblem

MAX_VIOLATIONS = 100


class Violations:
    """The first 100 as DatasetViolation messages in JSON, and how many there are of each reason."""

    def __init__(self) -> None:
        self.listed: list[dict[str, Any]] = []
        self.reasons: collections.Counter[str] = collections.Counter()
        self.broken = False
        """The file ended the check."""

    @property
    def bad_rows(self) -> int:
        """Rows that are not usable."""
        return self.reasons.total() - self.broken

    def add_row(self, block: Block, index: int, problem: RowProblem) -> dict[str, Any]:
        """Notes a bad row, and returns its violation."""
        line, column, message = block.lines[index], 0, problem.message
        if problem.offset >= 0:
            line, column, further = block.place(index, problem.offset)
            if further:
                # The line of a violation is where its row begins.
                column, message = 0, f"{message} (line {line + further}, column {column})"
        violation = _violation(problem, message, line, column)
        self._note(violation)
        return violation

    def add_file(self, problem: FileProblem) -> None:
        """Notes what ends the check; it is always listed."""
        self.broken = True
        violation = _violation(problem, problem.message, problem.line, problem.column)
        del self.listed[MAX_VIOLATIONS - 1 :]
        self._note(violation)

    def _note(self, violation: dict[str, Any]) -> None:
        self.reasons[violation["reason"]] += 1
        if len(self.listed) < MAX_VIOLATIONS:
            self.listed.append(violation)


def _violation(problem: RowProblem | FileProblem, message: str, line: int, column: int) -> dict[str, Any]:
    return {
        "line": line,
        "path": encodable(problem.path),
        "reason": problem.reason,
        "message": encodable(message),
        "hint": problem.hint or CATALOGUE[problem.reason].hint,
        "column": column,
    }
