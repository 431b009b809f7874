"""The error that refuses a file with bad rows; used by the dataset upload."""

from services.common.dataset_reasons import FILE_PROBLEMS
from services.common.errors import ServiceError, Violation
from services.storage.checking.budget import Budget
from tunesmith.v1 import dataset_pb2


def refusal(report: dataset_pb2.DatasetReport, budget: Budget) -> ServiceError:
    """Sums up a report whose bad rows the budget does not cover, and names them."""
    first = report.violations[0]
    whole = _whole_file(report)
    rows = report.statistics.example_count + report.violation_count
    bad = f"{report.violation_count} of {rows} rows {'is' if report.violation_count == 1 else 'are'} bad"
    bad += f", more than {budget} allows" if str(budget) else ""
    return ServiceError(
        whole.reason if whole else "DATASET_INVALID",
        whole.message if whole else f"{bad}; first: {place(first)}: {first.message}",
        hint=whole.hint if whole else first.hint if len(report.violations_by_reason) == 1 else "",
        metadata={"row_count": str(rows), "violation_count": str(report.violation_count)},
        violations=[Violation(place(violation), _description(violation)) for violation in report.violations],
    )


def place(violation: dataset_pb2.RowViolation) -> str:
    """Line, column and path as people read them."""
    if not violation.line:
        return "file"
    line = f"line {violation.line}" + (f", column {violation.column}" if violation.column else "")
    return f"{line}: {violation.path}" if violation.path else line


def _whole_file(report: dataset_pb2.DatasetReport) -> dataset_pb2.RowViolation | None:
    """The only violation, when it is of the file and not of a row."""
    only = report.violations[0] if report.violation_count == 1 else None
    return only if only and not report.statistics.example_count and only.reason in FILE_PROBLEMS else None


def _description(violation: dataset_pb2.RowViolation) -> str:
    join = " " if violation.message.endswith("?") else ". "
    return f"{violation.message}{join}{violation.hint}"
