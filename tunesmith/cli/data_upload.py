"""`tunesmith data upload`: a file becomes a dataset; also used by `task create`, which takes files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.options import Json, MaxInvalidRatio, MaxInvalidRows
from tunesmith.cli.output import print_json, talk
from tunesmith.cli.progress import transfer_progress
from tunesmith.names import bare_id

if TYPE_CHECKING:
    from tunesmith.client import Client
    from tunesmith.v1.dataset_pb2 import Dataset

PARTS_FROM_BYTES = 64_000_000
_NO_WAY_FOR_PARTS = ("PRESIGNED_UPLOADS_OFF", "PART_NOT_SENT")


def upload(
    file: Annotated[Path, typer.Argument(help="JSON lines, or one JSON array.", show_default=False)],
    *,
    name: Annotated[str, typer.Option(help="What to call it; default: the file's name.")] = "",
    max_invalid_rows: MaxInvalidRows = None,
    max_invalid_ratio: MaxInvalidRatio = None,
    parts: Annotated[
        bool | None,
        typer.Option("--parts/--no-parts", help="Straight to the object store, several at a time.", show_default="above 64 MB"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a file and store it as a dataset."""
    from tunesmith.cli.data_text import print_dataset
    from tunesmith.client import Client

    with Client() as client:
        dataset = store(client, file, name, parts=parts, max_invalid_rows=max_invalid_rows, max_invalid_ratio=max_invalid_ratio)
    if as_json:
        print_json(dataset)
        return
    print_dataset(dataset)
    if dataset.dropped_row_count:
        talk(f"see the rows left out: tunesmith data download {bare_id(dataset.name)} - --content dropped")
    talk(f"tune on it: tunesmith task create --data {bare_id(dataset.name)} --watch")


def store(client: "Client", file: Path, name: str = "", *, parts: bool | None = None, **budget: float | None) -> "Dataset":
    """Upload under a progress bar. Without being told, big files go in parts, unless there is no way for them."""
    from tunesmith.errors import FailedPrecondition, Unreachable
    from tunesmith.transfers import require_file

    big = require_file(file).stat().st_size > PARTS_FROM_BYTES
    if parts or (parts is None and big):
        try:
            with transfer_progress(file.name) as progress:
                return client.upload_dataset_in_parts(file, name or None, progress, **budget)  # type: ignore[arg-type]
        except (FailedPrecondition, Unreachable) as error:
            if parts or error.reason not in _NO_WAY_FOR_PARTS:
                raise
            talk(f"not in parts, through the service: {error.message}")
    with transfer_progress(file.name) as progress:
        return client.upload_dataset(file, name or None, progress, **budget)  # type: ignore[arg-type]
