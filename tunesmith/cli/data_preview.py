"""`tunesmith data preview`: what the model is given for a row, and which tokens carry loss."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.options import DEFAULT_BASE_MODEL, Json
from tunesmith.cli.output import print_json

if TYPE_CHECKING:
    from tunesmith.client import Client
    from tunesmith.v1.dataset_service_pb2 import RowPreview

_ROWS_AT_ONCE = 20  # of one PreviewDataset call


def preview(
    data: Annotated[str, typer.Argument(metavar="FILE|DATASET", help="A file, or a dataset's ID.", show_default=False)],
    *,
    model: Annotated[str, typer.Option(help="The base model's ID; for a file also a directory.")] = DEFAULT_BASE_MODEL,
    row: Annotated[int, typer.Option(min=1, help="The first row, counted over usable rows.")] = 1,
    rows: Annotated[int, typer.Option(min=1, max=_ROWS_AT_ONCE, help="How many rows.")] = 1,
    max_seq_length: Annotated[int, typer.Option(min=0, help="Tokens per example, shows what is cut; 0 = default.")] = 0,
    ids: Annotated[bool, typer.Option("--ids", help="A line a token, with its id.")] = False,
    spaces: Annotated[bool, typer.Option("--spaces", help="Make blanks, tabs and line ends visible.")] = False,
    as_json: Json = False,
) -> None:
    """Show rows as the base model is given them: the text, and which tokens carry loss.

    With --json one RowPreview a line.
    """
    from tunesmith.cli.data_argument import looks_like_file
    from tunesmith.client import Client

    with Client() as client:
        if looks_like_file(data):
            found = _of_file(client, Path(data), model, range(row, row + rows), max_seq_length)
        else:
            found = client.preview_dataset(data, model, row, rows, max_seq_length).rows
    if as_json:
        for one in found:
            print_json(one, compact=True)
        return
    from tunesmith.cli.preview_text import print_previews

    print_previews(found, ids=ids, spaces=spaces)


def _of_file(client: "Client", file: Path, model: str, asked: range, max_seq_length: int) -> "Sequence[RowPreview]":
    from tunesmith.errors import InvalidArgument, OutOfRange
    from tunesmith.offline import renderer
    from tunesmith.offline.checker import rows_from
    from tunesmith.offline.tokenizer_files import model_directory
    from tunesmith.transfers import require_file

    lines, checked = rows_from(require_file(file), asked)
    if not lines:
        hint = f"See what is wrong: tunesmith data check {file}"
        usable = checked.report.statistics.example_count
        if usable:
            problem = f"{file} has {usable:,} usable rows, there is no row {asked.start:,}"
            raise OutOfRange(problem, reason="ROW_OUT_OF_RANGE", hint=hint)
        raise InvalidArgument(f"{file} has no usable row", reason="DATASET_INVALID", hint=hint)
    directory = model_directory(client, model)
    return renderer.preview(lines, directory, first_row=asked.start, max_seq_length=max_seq_length)
