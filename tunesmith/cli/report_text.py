"""The outcome of a check as a compiler prints it; used by `data check`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from tunesmith.cli.data_text import counted, format_name, print_warnings, statistics_fields
from tunesmith.cli.output import print_fields, size, visible

if TYPE_CHECKING:
    from tunesmith.v1.dataset_pb2 import DatasetReport, RowViolation

ERROR_PAGES = "docs/errors"


def print_report(report: "DatasetReport", file: str, *, dropped_row_count: int, accepted: bool) -> None:
    """Every bad row that is listed, the counts by code, the warnings, the statistics, the verdict."""
    print_violations(report.violations, report.violation_count, file)
    _print_counts(report.violations_by_reason)
    print_warnings(report.warnings)
    if report.statistics.example_count:
        print_fields([("format", format_name(report.format)), *statistics_fields(report.statistics)])
    print(_verdict(report, file, dropped_row_count, accepted))


def print_violations(violations: "Sequence[RowViolation]", count: int, file: str) -> None:
    """`error[CODE] file:line:column path: message` with its hint, and how many more there are."""
    console = Console(highlight=False)
    for violation in violations:
        head = Text.assemble((f"error[{violation.reason}]", "bold red"), f" {_place(violation, file)}", style="")
        console.print(head.append(f": {visible(violation.message)}"), soft_wrap=True)
        if violation.hint:
            print(f"  hint: {visible(violation.hint)}")
    if (hidden := count - len(violations)) > 0:
        print(f"… and {hidden:,} more")


def _place(violation: "RowViolation", file: str) -> str:
    """`train.jsonl:14:23 messages[1].role`; what is not known is left out."""
    numbers = [str(number) for number in (violation.line, violation.column) if number]
    return " ".join(filter(None, [":".join([visible(file), *numbers]), visible(violation.path)]))


def _print_counts(by_reason: Mapping[str, int]) -> None:
    """One line a code, and where codes are explained."""
    if by_reason:
        width = max(map(len, by_reason))
        print(f"bad rows by code (each has a page in {ERROR_PAGES}):")
        for reason, count in sorted(by_reason.items(), key=lambda item: (-item[1], item[0])):
            print(f"  {reason:<{width}}  {count:>7,}")


def _verdict(report: "DatasetReport", file: str, dropped: int, accepted: bool) -> str:
    bad = f"{report.violation_count:,} bad row{'' if report.violation_count == 1 else 's'}"
    good = f"{counted(report.statistics.example_count, 'example')}, {size(report.size_bytes)}"
    if not accepted:
        return f"refused: {visible(file)} has {bad}, {report.statistics.example_count:,} good"
    return f"accepted: {good}, {bad} left out within the budget" if dropped else f"accepted: {good}"
