"""`tunesmith data …`: training data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.options import Json
from tunesmith.cli.output import print_fields, print_json, print_table, size, talk, transfer_progress, when
from tunesmith.names import bare_id

if TYPE_CHECKING:
    from tunesmith.v1.dataset_pb2 import Dataset, DatasetReport, DatasetStatistics

app = typer.Typer(help="Training data: check, upload, list, show.", no_args_is_help=True)

_File = Annotated[Path, typer.Argument(help="JSON lines in OpenAI chat format.", show_default=False)]


@app.command()
def upload(
    file: _File,
    name: Annotated[str, typer.Option(help="What to call it; default: the file's name.")] = "",
    as_json: Json = False,
) -> None:
    """Check a file and store it as a dataset."""
    from tunesmith.client import Client

    with Client() as client:
        dataset = client.upload_dataset(file, name or None, transfer_progress(file.name))
    if as_json:
        print_json(dataset)
        return
    _print_dataset(dataset)
    talk(f"tune on it: tunesmith task create --data {bare_id(dataset.name)} --watch")


@app.command()
def check(file: _File, as_json: Json = False) -> None:
    """Check a file without storing it; exit code 1 when a row is bad."""
    from tunesmith.client import Client

    with Client() as client:
        report = client.validate_dataset(file, transfer_progress(file.name))
    if as_json:
        print_json(report)
    else:
        print_report(report)
    raise typer.Exit(0 if report.valid else 1)


@app.command()
def ls(as_json: Json = False) -> None:
    """List datasets, newest first."""
    from tunesmith.client import Client

    with Client() as client:
        if as_json:
            for dataset in client.list_datasets():
                print_json(dataset, compact=True)
            return
        rows = [
            (bare_id(d.name), d.display_name, f"{d.statistics.example_count:,}", size(d.size_bytes), when(d.create_time))
            for d in client.list_datasets()
        ]
    print_table(
        ["ID", "NAME", "EXAMPLES", "SIZE", "CREATED"], rows, "no datasets yet; upload one with: tunesmith data upload FILE"
    )


@app.command()
def show(dataset: Annotated[str, typer.Argument(help="ID or name of a dataset.")], as_json: Json = False) -> None:
    """Show one dataset."""
    from tunesmith.client import Client

    with Client() as client:
        found = client.get_dataset(dataset)
    if as_json:
        print_json(found)
    else:
        _print_dataset(found)


def print_report(report: "DatasetReport") -> None:
    """The outcome of a check: every bad row that is listed, then the counts."""
    for violation in report.violations:
        place = f"line {violation.line}: " if violation.line else ""
        print(f"{place}{violation.path + ': ' if violation.path else ''}{violation.message} [{violation.reason}]")
        if violation.hint:
            print(f"  hint: {violation.hint}")
    hidden = report.violation_count - len(report.violations)
    if hidden > 0:
        print(f"… and {hidden:,} more")
    for reason, count in sorted(report.violations_by_reason.items()):
        print(f"{reason}: {count:,}")
    verdict = "valid" if report.valid else f"{report.violation_count:,} problems"
    print(f"{verdict}: {summary(report.statistics)}")


def summary(statistics: "DatasetStatistics") -> str:
    """`640 examples, 1,280 messages, 3 duplicates`."""
    parts = [f"{statistics.example_count:,} examples", f"{statistics.message_count:,} messages"]
    if statistics.duplicate_count:
        parts.append(f"{statistics.duplicate_count:,} duplicates")
    if statistics.without_system_count:
        parts.append(f"{statistics.without_system_count:,} without a system message")
    return ", ".join(parts)


def _print_dataset(dataset: "Dataset") -> None:
    roles = ", ".join(f"{count:,} {role}" for role, count in sorted(dataset.statistics.messages_by_role.items()))
    print_fields(
        [
            ("name", dataset.name),
            ("called", dataset.display_name),
            ("contains", summary(dataset.statistics)),
            ("messages", roles),
            ("size", size(dataset.size_bytes)),
            ("sha256", dataset.sha256),
            ("created", when(dataset.create_time)),
        ]
    )
