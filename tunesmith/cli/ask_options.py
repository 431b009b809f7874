"""Options of commands that let models answer a dataset: `tunesmith eval run` and `tunesmith batch run`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunesmith.cli.data_argument import looks_like_file
from tunesmith.cli.data_upload import store
from tunesmith.cli.output import talk

if TYPE_CHECKING:
    from tunesmith.client import Client

Data = Annotated[str, typer.Option(metavar="ID|FILE", help="The rows; a file is uploaded first.", show_default=False)]
Name = Annotated[str, typer.Option(help="What to call the task; default: after the data.")]
System = Annotated[str, typer.Option(metavar="TEXT", help="System turn for every conversation, instead of its own.")]
MaxRows = Annotated[int | None, typer.Option(min=1, help="Only the first so many rows.", show_default="all")]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="Tokens to write at most per answer.", show_default="256")]
Temperature = Annotated[float | None, typer.Option(min=0, max=2, help="0 = always the likeliest token.", show_default="0")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of the sampling.", show_default="42")]


def dataset(client: "Client", given: str) -> str:
    """A dataset's name; a file is uploaded first."""
    if not looks_like_file(given):
        return given
    stored = store(client, Path(given))
    talk(f"uploaded {Path(given).name} as {stored.name}")
    return stored.name


def sampling(**given: float | None) -> dict[str, Any]:
    """What was given."""
    return {name: value for name, value in given.items() if value is not None}


def named(name: str, data: str, what: str) -> str:
    """What to call the task."""
    return name or f"{what} {Path(data).stem if looks_like_file(data) else data}"
