"""The options that name a place of the server instead of a directory here; used by the commands that take a model."""

from pathlib import Path
from typing import Annotated

import typer

FromServer = Annotated[
    str, typer.Option(help="Directory on the server instead, below TUNESMITH_STORAGE_IMPORT_ROOT.", show_default=False)
]
FromS3 = Annotated[
    str, typer.Option("--from-s3", help="S3 prefix instead, below TUNESMITH_STORAGE_IMPORT_S3.", show_default=False)
]


def require_one_place(directory: Path | None, from_server: str, from_s3: str, hub: str | None = None) -> None:
    """Raises BadParameter unless exactly one place is named; `hub` None = the command takes none from there."""
    if [bool(directory), bool(from_server), bool(from_s3), bool(hub)].count(True) != 1:
        others = "--from-server and --from-s3" + ("" if hub is None else ", or --hub")
        raise typer.BadParameter(f"name one of DIRECTORY, {others}", param_hint="DIRECTORY")
