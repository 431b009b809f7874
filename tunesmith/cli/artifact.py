"""`tunesmith artifact …`: what tasks produced."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.options import Json
from tunesmith.cli.output import print_fields, print_json, print_table, size, talk, time_left, when
from tunesmith.cli.progress import transfer_progress
from tunesmith.names import bare_id

if TYPE_CHECKING:
    from tunesmith.v1.artifact_pb2 import Artifact

app = typer.Typer(help="Results of tasks: list, show, download.", no_args_is_help=True)

_Artifact = Annotated[str, typer.Argument(metavar="ARTIFACT", help="ID or name of an artifact.")]


@app.command()
def ls(
    task: Annotated[str, typer.Option(help="Only artifacts of this task.")] = "",
    as_json: Json = False,
) -> None:
    """List artifacts, newest first."""
    from tunesmith.client import Client

    with Client() as client:
        if as_json:
            for artifact in client.list_artifacts(task):
                print_json(artifact, compact=True)
            return
        now = datetime.now(UTC)
        rows = [
            (
                bare_id(a.name),
                _kind(a),
                size(a.size_bytes),
                bare_id(a.manifest.base_model),
                bare_id(a.manifest.task),
                _life(a, now),
            )
            for a in client.list_artifacts(task)
        ]
    print_table(["ID", "KIND", "SIZE", "BASE MODEL", "TASK", "KEPT"], rows, "no artifacts yet")


@app.command()
def show(artifact: _Artifact, as_json: Json = False) -> None:
    """Show one artifact: its files, where it came from, how long it is kept."""
    from tunesmith.client import Client

    with Client() as client:
        found = client.get_artifact(artifact)
    if as_json:
        print_json(found)
    else:
        _print_artifact(found)


@app.command()
def download(
    artifact: _Artifact,
    directory: Annotated[Path | None, typer.Argument(help="Where to; default: ./ARTIFACT.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Download every file and verify its checksum."""
    from tunesmith.client import Client

    target = directory or Path(bare_id(artifact))
    with Client() as client, transfer_progress(target.name) as progress:
        paths = client.download_artifact(artifact, target, progress)
    if as_json:
        import json

        print(json.dumps({"directory": str(target), "files": [str(path) for path in paths]}, indent=2))
        return
    for path in paths:
        print(path)
    talk(f"{len(paths)} files, checksums verified")


def _kind(artifact: "Artifact") -> str:
    from tunesmith.v1.artifact_pb2 import Artifact

    return Artifact.Kind.Name(artifact.kind).lower()


def _life(artifact: "Artifact", now: datetime) -> str:
    from tunesmith.v1.artifact_pb2 import Artifact

    if artifact.state != Artifact.AVAILABLE:
        return Artifact.State.Name(artifact.state).lower()
    return f"expires in {time_left(artifact.expire_time, now)}"


def _print_artifact(artifact: "Artifact") -> None:
    from tunesmith.cli.task_text import hyperparameter_lines

    manifest = artifact.manifest
    print_fields(
        [
            ("name", artifact.name),
            ("kind", _kind(artifact)),
            ("kept", f"{_life(artifact, datetime.now(UTC))} ({when(artifact.expire_time)})"),
            ("size", size(artifact.size_bytes)),
            ("task", manifest.task),
            ("step", str(manifest.step)),
            ("base model", manifest.base_model),
            ("revision", manifest.base_model_revision),
            ("data sha256", manifest.dataset_sha256),
            ("metrics", "\n".join(f"{name}={value:.6g}" for name, value in sorted(manifest.metrics.items()))),
            ("numbers", "\n".join(hyperparameter_lines(manifest.effective_hyperparameters))),
            ("versions", "\n".join(f"{name} {number}" for name, number in sorted(manifest.versions.items()))),
            ("files", "\n".join(f"{file.path} ({size(file.size_bytes)})" for file in manifest.files)),
            ("created", when(artifact.create_time)),
        ]
    )
