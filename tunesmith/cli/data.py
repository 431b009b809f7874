"""`tunesmith data …`: training data."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli import data_check, data_convert, data_preview, data_upload
from tunesmith.cli.options import Json
from tunesmith.cli.output import print_json, print_table, size, talk, when
from tunesmith.cli.progress import transfer_progress
from tunesmith.names import bare_id

if TYPE_CHECKING:
    from tunesmith.v1.dataset_pb2 import Dataset

app = typer.Typer(help="Training data: check, preview, convert, upload, list, show, download.", no_args_is_help=True)
app.command("check")(data_check.check)
app.command("preview")(data_preview.preview)
app.command("convert")(data_convert.convert)
app.command("upload")(data_upload.upload)

_Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="ID or name of a dataset.", show_default=False)]


@app.command()
def ls(
    contains: Annotated[str, typer.Option(help="Only datasets whose name contains this.")] = "",
    format_: Annotated[
        list[str] | None, typer.Option("--format", help="Only of this format, for example chat; repeatable.")
    ] = None,
    name: Annotated[str, typer.Option(help="Only the versions of exactly this name.")] = "",
    as_json: Json = False,
) -> None:
    """List datasets, newest first."""
    from tunesmith.cli.data_text import format_name
    from tunesmith.client import Client
    from tunesmith.names import enum_value
    from tunesmith.v1.dataset_pb2 import Dataset

    formats = [enum_value(Dataset.Format, word, "FORMAT_UNKNOWN") for word in format_ or []]
    with Client() as client:
        datasets = client.list_datasets(display_name_contains=contains, formats=formats, display_name=name)
        if as_json:
            for dataset in datasets:
                print_json(dataset, compact=True)
            return
        rows = [
            (
                bare_id(d.name),
                d.display_name,
                str(d.version or ""),
                format_name(d.format),
                f"{d.statistics.example_count:,}",
                size(d.size_bytes),
                when(d.create_time),
            )
            for d in datasets
        ]
    headers = ["ID", "NAME", "VERSION", "FORMAT", "EXAMPLES", "SIZE", "CREATED"]
    print_table(headers, rows, "no datasets yet; upload one with: tunesmith data upload FILE")


@app.command()
def show(
    dataset: _Dataset,
    model: Annotated[str, typer.Option(help="Count tokens as this base model sees them.")] = "",
    max_seq_length: Annotated[int, typer.Option(min=0, help="Tokens per example, for what is cut; 0 = default.")] = 0,
    against: Annotated[str, typer.Option(help="Look for rows that this dataset has, too.")] = "",
    as_json: Json = False,
) -> None:
    """Show one dataset; with --model its tokens, with --against its overlap with another one.

    With --json it is the dataset; with --model or --against the analysis.
    """
    from tunesmith.cli.data_text import print_analysis, print_dataset
    from tunesmith.client import Client

    with Client() as client:
        if not model and not against:
            found = client.get_dataset(dataset)
            print_json(found) if as_json else print_dataset(found)
            return
        analysis = client.analyze_dataset(dataset, model or None, max_seq_length, against or None)
        if as_json:
            print_json(analysis)
        else:
            print_dataset(client.get_dataset(dataset))
            print_analysis(analysis)


@app.command()
def rm(
    datasets: Annotated[list[str], typer.Argument(metavar="DATASET...", help="IDs or names.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete datasets and their bytes; refused while a live task needs one."""
    from tunesmith.client import Client

    with Client() as client:
        found = [client.get_dataset(dataset) for dataset in datasets]
        if not yes:
            for dataset in found:
                talk(f"{dataset.name}  {dataset.display_name}, {dataset.statistics.example_count:,} examples")
            typer.confirm(f"delete {len(found)} dataset{'s' if len(found) > 1 else ''}?", abort=True, err=True)
        for dataset in found:
            client.delete_dataset(dataset.name)
            print_json(dataset, compact=True) if as_json else talk(f"deleted {dataset.name}")


@app.command()
def download(
    dataset: _Dataset,
    path: Annotated[
        Path | None, typer.Argument(help="Where to; - is the standard output; default: ./ID.jsonl.", show_default=False)
    ] = None,
    content: Annotated[
        str, typer.Option(help="original: as uploaded; rows: what trains; dropped: what was left out.")
    ] = "original",
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    as_json: Json = False,
) -> None:
    """Download a dataset; what was interrupted is continued."""
    from tunesmith.client import Client

    with Client() as client:
        if path == Path("-"):
            for chunk in client.dataset_chunks(dataset, content):
                sys.stdout.buffer.write(chunk)
            return
        found = client.get_dataset(dataset)
        target = path or Path(_file_name(found, content))
        _require_free(target, force=force)
        with transfer_progress(target.name) as progress:
            client.download_dataset(found.name, target, content, progress)
    print(json.dumps({"path": str(target), "size_bytes": target.stat().st_size}) if as_json else target)


def _file_name(dataset: "Dataset", content: str) -> str:
    """By ID: what somebody called a dataset must not name a file."""
    suffix = ".json" if content == "original" and dataset.display_name.endswith(".json") else ".jsonl"
    return bare_id(dataset.name) + ("" if content == "original" else f".{content}") + suffix


def _require_free(path: Path, *, force: bool) -> None:
    """Refuse to replace a file without --force."""
    if path.exists() and not force:
        raise typer.BadParameter(f"{path} exists; --force replaces it", param_hint="PATH")
