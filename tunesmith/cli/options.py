"""Options that several commands share, so that they read the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Where the stack keeps everything.", envvar="TUNESMITH_DATA_DIR", show_default="~/.tunesmith"
    ),
]
TaskId = Annotated[str, typer.Argument(metavar="TASK", help="ID or name of a task.")]
