"""Checks a dataset while it streams, in bounded memory, and counts what is in it; used by upload and check alike."""

import collections
import dataclasses
import hashlib
from collections.abc import Mapping

from services.common.catalogue import CATALOGUE
from services.common.errors import ServiceError, Violation
from services.storage.dataset import DatasetStatistics
from services.storage.dataset_row import ROLES, Message, RowProblem, read_row
from services.storage.line_splitter import MAX_LINE_BYTES, Line, LineSplitter

MAX_VIOLATIONS = 100
_BLANK = b" \t\r"
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclasses.dataclass(frozen=True, slots=True)
class RowViolation:
    """What is wrong with one row."""

    line: int
    """1-based; 0 = the file as a whole."""
    path: str
    """Place in the row; empty = the whole row."""
    reason: str
    message: str

    @property
    def hint(self) -> str:
        """How to mend it."""
        return CATALOGUE[self.reason].hint

    @property
    def description(self) -> str:
        """What is wrong and how to mend it, as sentences."""
        return f"{self.message} {self.hint}" if self.message.endswith("?") else f"{self.message}. {self.hint}"

    @property
    def place(self) -> str:
        """Line and path as people read them."""
        if not self.line:
            return "file"
        return f"line {self.line}: {self.path}" if self.path else f"line {self.line}"


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetReport:
    """The outcome of a check."""

    violations: tuple[RowViolation, ...]
    """The first 100."""
    violations_by_reason: Mapping[str, int]
    statistics: DatasetStatistics

    @property
    def violation_count(self) -> int:
        """All bad rows."""
        return sum(self.violations_by_reason.values())

    @property
    def valid(self) -> bool:
        """Whether no row is bad."""
        return not self.violations


class DatasetValidator:
    """Takes the bytes of a JSON lines file in chunks cut anywhere.

    Memory: one line of at most 8 MiB, 100 violations, and about 100 bytes per distinct row to find repeated ones.
    """

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._lines = LineSplitter(max_line_bytes)
        self._max_line_bytes = max_line_bytes
        self._violations: list[RowViolation] = []
        self._reasons: collections.Counter[str] = collections.Counter()
        self._roles: collections.Counter[str] = collections.Counter()
        self._seen: set[bytes] = set()
        self._rows = self._duplicates = self._characters = self._without_system = 0
        self._unreadable = False

    def feed(self, chunk: bytes) -> None:
        """Checks the rows that end in this chunk."""
        if not self._unreadable:
            for line in self._lines.feed(chunk):
                self._check(line)

    def finish(self) -> DatasetReport:
        """Checks the last row and tells the outcome; call it once."""
        for line in self._lines.finish():
            self._check(line)
        if not self._rows and not self._unreadable:
            self._note(0, RowProblem("DATASET_EMPTY", "", "the file has no rows"))
        statistics = DatasetStatistics(
            example_count=self._rows,
            message_count=self._roles.total(),
            messages_by_role={role: self._roles[role] for role in ROLES if self._roles[role]},
            assistant_character_count=self._characters,
            without_system_count=self._without_system,
            duplicate_count=self._duplicates,
        )
        return DatasetReport(tuple(self._violations), dict(self._reasons), statistics)

    def _check(self, line: Line) -> None:
        start = line.content.lstrip(_BLANK)
        if self._unreadable or not start:
            return
        if not self._rows and (problem := _problem_of_file(start)):
            self._unreadable = True
            self._note(0, problem)
            return
        self._rows += 1
        try:
            self._count(line.content, self._read(line))
        except RowProblem as problem:
            self._note(line.number, problem)

    def _read(self, line: Line) -> list[Message]:
        if line.too_long:
            message = f"the line is longer than {self._max_line_bytes} bytes"
            raise RowProblem("DATASET_LINE_TOO_LONG", "", message)
        return read_row(line.content)

    def _count(self, content: bytes, messages: list[Message]) -> None:
        self._roles.update(message.role for message in messages)
        self._characters += sum(len(message.content) for message in messages if message.role == "assistant")
        self._without_system += all(message.role != "system" for message in messages)
        digest = hashlib.blake2b(content, digest_size=12).digest()
        self._duplicates += digest in self._seen
        self._seen.add(digest)

    def _note(self, line: int, problem: RowProblem) -> None:
        self._reasons[problem.reason] += 1
        if len(self._violations) < MAX_VIOLATIONS:
            self._violations.append(RowViolation(line, problem.path, problem.reason, problem.message))


def _problem_of_file(start: bytes) -> RowProblem | None:
    """What the first row gives away about the whole file; telling it once is better than once per row."""
    if start.startswith(b"["):
        return RowProblem("DATASET_JSON_ARRAY", "", "the file is one JSON array, not one JSON object per line")
    if start.startswith(_UTF_16_MARKS):
        return RowProblem("DATASET_NOT_UTF8", "", "the file is UTF-16")
    return None


def refusal(report: DatasetReport) -> ServiceError:
    """The error that refuses a file with bad rows; names the first of them."""
    first = report.violations[0]
    reason = "DATASET_INVALID" if first.line else first.reason
    rows = report.statistics.example_count
    bad = f"{report.violation_count} of {rows} rows {'is' if report.violation_count == 1 else 'are'} bad"
    summary = f"{bad}; first: {first.place}: {first.message}" if first.line else first.message
    return ServiceError(
        reason,
        summary,
        hint=first.hint if len(report.violations_by_reason) == 1 else "",
        metadata={"row_count": str(rows), "violation_count": str(report.violation_count)},
        violations=[Violation(violation.place, violation.description) for violation in report.violations],
    )
