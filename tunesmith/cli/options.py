"""Options that several commands share, so that they read the same everywhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_BASE_MODEL = "smollm2-135m-instruct"

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Where the stack keeps everything.", envvar="TUNESMITH_DATA_DIR", show_default="~/.tunesmith"
    ),
]
TaskId = Annotated[str, typer.Argument(metavar="TASK", help="ID or name of a task.")]
MaxInvalidRows = Annotated[
    int | None, typer.Option(min=0, help="Bad rows that may be left out.", show_default="0: one bad row refuses the file")
]
MaxInvalidRatio = Annotated[
    float | None, typer.Option(min=0, max=0.999999, help="Share of bad rows that may be left out.", show_default="0")
]


def key_values(given: Sequence[str], option: str) -> dict[str, str]:
    """`KEY=VALUE` texts as a dictionary; a text without `=` is a usage error that names the option."""
    for text in given:
        if "=" not in text:
            raise typer.BadParameter(f"{text!r} is not of the form KEY=VALUE", param_hint=option)
    return dict(text.split("=", 1) for text in given)
