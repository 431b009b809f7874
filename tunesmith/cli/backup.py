"""`tunesmith backup` and `restore`: everything a stack has, elsewhere and back."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tunesmith.cli.options import DataDir, Json
from tunesmith.cli.output import size, talk


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    app.command()(backup)
    app.command()(restore)


def backup(
    directory: Annotated[Path, typer.Argument(help="Where to; a later backup in it copies only what is new.", file_okay=False)],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Save tasks, events, datasets, artifacts and models, while the stack runs or not.

    Exit code 1 when stored bytes are damaged; the backup has everything else then.
    """
    from tunesmith.local.backup import save
    from tunesmith.local.state import data_directory

    done = save(data_directory(data_dir), directory, talk)
    _tell(done, f"saved to {directory}, {done['copied']} of them new", as_json=as_json)
    if done["damaged"]:
        talk(f"{len(done['damaged'])} contents lie damaged and were left out; see: tunesmith doctor")
        raise typer.Exit(1)


def restore(
    directory: Annotated[Path, typer.Argument(help="What `tunesmith backup` wrote.", exists=True, file_okay=False)],
    data_dir: DataDir = None,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Leave out what lies damaged in the backup instead of restoring nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring a backup back into an empty data directory. Every checksum is compared.

    Exit code 1 when there are contents whose bytes could not be restored; everything else was then.
    """
    from tunesmith.local.backup import restore as bring_back
    from tunesmith.local.state import data_directory

    target = data_directory(data_dir)
    done = bring_back(target, directory, talk, skip_damaged=skip_damaged)
    _tell(done, f"restored into {target.root}; start it with: tunesmith up --data-dir {target.root}", as_json=as_json)
    if done["damaged"]:
        talk(f"{len(done['damaged'])} contents have no bytes; what needs them, tells tunesmith doctor once the stack runs")
        raise typer.Exit(1)


def _tell(done: dict[str, Any], outcome: str, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(done, indent=2))
    else:
        print(f"{done['contents']} contents, {size(done['bytes'])}, of {done['create_time']}: {outcome}")
