"""`tunesmith task diff`: what two tasks do not have in common."""

from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.options import Json
from tunesmith.cli.output import print_json, print_table, talk

if TYPE_CHECKING:
    from tunesmith.v1.task_manager_service_pb2 import DiffTasksResponse


def diff(
    first: Annotated[str, typer.Argument(metavar="FIRST", help="ID or name of a task.")],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="ID or name of another.")],
    as_json: Json = False,
) -> None:
    """Show what two tasks do not have in common: what was asked for, numbers, data, versions, results."""
    from tunesmith.client import Client

    with Client() as client:
        found = client.diff_tasks(first, second)
    print_json(found) if as_json else _show(found)


def _show(found: "DiffTasksResponse") -> None:
    rows = [(_section(each.section), each.field, each.first or "-", each.second or "-") for each in found.differences]
    print_table(["what", "field", "first", "second"], rows, "nothing differs")
    if found.unknown_sections:
        names = " and ".join(map(_section, found.unknown_sections))
        talk(f"{names} cannot be compared: both tasks need an artifact that has not expired")


def _section(number: int) -> str:
    from tunesmith.v1.task_manager_service_pb2 import TaskDifference

    known = TaskDifference.Section.values()
    return TaskDifference.Section.Name(number).lower() if number in known else str(number)  # type: ignore[arg-type]
