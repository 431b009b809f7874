"""What the checker says of a file, and the error that refuses one; used by the dataset uploads."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from services.common.errors import ServiceError, Violation
from services.storage.dataset import Budget, Json, RowIndex


@dataclasses.dataclass(frozen=True, slots=True)
class CheckOutcome:
    """The end of a check."""

    report: Json
    """tunesmith.v1.DatasetReport."""
    accepted: bool
    """No bad rows, or no more than the budget covers."""
    dropped_rows_by_reason: Mapping[str, int]
    row_count: int
    rows_size_bytes: int
    rows_sha256: str
    rows_equal_file: bool
    """The usable rows are byte for byte the file, so that it need not be kept twice."""
    index: RowIndex

    @property
    def format(self) -> str:
        """Name of a Dataset.Format."""
        return str(self.report["format"])

    @property
    def statistics(self) -> Json:
        """tunesmith.v1.DatasetStatistics."""
        return dict(self.report.get("statistics", {}))

    @property
    def warnings(self) -> Sequence[Json]:
        """tunesmith.v1.DatasetWarning."""
        return list(self.report.get("warnings", []))


def outcome(answer: Mapping[str, Any]) -> CheckOutcome:
    """The outcome in the checker's last line."""
    return CheckOutcome(
        report=answer["report"],
        accepted=answer["accepted"],
        dropped_rows_by_reason=answer["dropped_rows_by_reason"],
        row_count=answer["row_count"],
        rows_size_bytes=answer["rows_size_bytes"],
        rows_sha256=answer["rows_sha256"],
        rows_equal_file=answer["rows_equal_file"],
        index=RowIndex(answer["index"]["every"], answer["index"]["offsets"]),
    )


def refusal(outcome: CheckOutcome, budget: Budget) -> ServiceError:
    """The error that refuses a file with bad rows; names the first of them."""
    violations = outcome.report.get("violations", [])
    first = violations[0]
    by_reason = outcome.report.get("violationsByReason", {})
    bad = int(outcome.report.get("violationCount", 0))
    # A trouble of the file as a whole has its own reason; no row can be mended.
    reason, summary = first["reason"], first["message"]
    if first.get("line"):
        reason, summary = "DATASET_INVALID", f"{_counted(bad, outcome)}; first: {_place(first)}: {first['message']}"
        if limits := _limits(budget):
            summary = f"{summary}; allowed were {limits}"
    return ServiceError(
        reason,
        summary,
        hint=first["hint"] if len(by_reason) == 1 else "",
        metadata={"row_count": str(_rows(bad, outcome)), "violation_count": str(bad)},
        violations=[Violation(_place(violation), _description(violation)) for violation in violations],
    )


def _counted(bad: int, outcome: CheckOutcome) -> str:
    return f"{bad} of {_rows(bad, outcome)} rows {'is' if bad == 1 else 'are'} bad"


def _rows(bad: int, outcome: CheckOutcome) -> int:
    return bad + int(outcome.report.get("statistics", {}).get("exampleCount", 0))


def _limits(budget: Budget) -> str:
    limits = []
    if budget.max_invalid_rows is not None:
        limits.append(f"{budget.max_invalid_rows} rows")
    if budget.max_invalid_ratio is not None:
        limits.append(f"a share of {budget.max_invalid_ratio:g}")
    return " and ".join(limits)


def _place(violation: Json) -> str:
    """Line and path as people read them."""
    if not int(violation.get("line", 0)):
        return "file"
    line, path = f"line {violation['line']}", violation.get("path", "")
    return f"{line}: {path}" if path else line


def _description(violation: Json) -> str:
    message, hint = violation["message"], violation["hint"]
    return f"{message} {hint}" if message.endswith("?") else f"{message}. {hint}"
