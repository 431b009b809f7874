"""`tunesmith artifact …`: what tasks produced."""

import enum
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli import artifact_export
from tunesmith.cli.artifact_life import days_left, kept, life
from tunesmith.cli.options import Json
from tunesmith.cli.output import print_fields, print_json, print_table, size, talk, when
from tunesmith.cli.progress import transfer_progress
from tunesmith.names import bare_id

if TYPE_CHECKING:
    from tunesmith.v1.artifact_pb2 import Artifact

app = typer.Typer(help="Results of tasks: list, show, download, keep, export.", no_args_is_help=True)
app.command("export")(artifact_export.export)

_Artifact = Annotated[str, typer.Argument(metavar="ARTIFACT", help="ID or name of an artifact.")]
_Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; it is recorded.")]
_OptionalReason = Annotated[str, typer.Option("--reason", "-r", help="Why; it is recorded.", show_default=False)]


class _Kind(enum.StrEnum):
    ADAPTER = "adapter"
    MODEL = "model"
    CHECKPOINT = "checkpoint"
    MERGED = "merged"
    GGUF = "gguf"
    EVALUATION = "evaluation"
    GENERATION = "generation"


class _State(enum.StrEnum):
    AVAILABLE = "available"
    EXPIRED = "expired"
    DELETED = "deleted"


@app.command()
def ls(
    task: Annotated[str, typer.Option(help="Only artifacts of this task.")] = "",
    state: Annotated[
        list[_State] | None, typer.Option(help="Only these; repeat it for several.", show_default="available and expired")
    ] = None,
    kind: Annotated[_Kind | None, typer.Option(help="Only of this kind.", show_default="any")] = None,
    as_json: Json = False,
) -> None:
    """List artifacts, newest first, with the time that is left to them."""
    from tunesmith.client import Client

    with Client() as client:
        found = client.list_artifacts(task, states=state or [_State.AVAILABLE, _State.EXPIRED], kind=kind or "")
        if as_json:
            for artifact in found:
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
                life(a, now),
            )
            for a in found
        ]
    nothing = "no artifact is like that" if task or state or kind else "no artifacts yet"
    print_table(["ID", "KIND", "SIZE", "BASE MODEL", "TASK", "KEPT"], rows, nothing)


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


@app.command()
def pin(artifact: _Artifact, reason: _Reason, as_json: Json = False) -> None:
    """Keep an artifact until it is unpinned."""
    from tunesmith.client import Client

    with Client() as client:
        _print_change(client.pin_artifact(artifact, reason), as_json=as_json)


@app.command()
def unpin(artifact: _Artifact, reason: _OptionalReason = "", as_json: Json = False) -> None:
    """Let an artifact expire at its time."""
    from tunesmith.client import Client

    with Client() as client:
        _print_change(client.unpin_artifact(artifact, reason), as_json=as_json)


@app.command()
def extend(
    artifact: _Artifact,
    reason: _Reason,
    days: Annotated[float, typer.Option("--days", help="How many days longer.", min=0.01, max=365)],
    as_json: Json = False,
) -> None:
    """Keep an artifact some days longer."""
    from tunesmith.client import Client

    with Client() as client:
        _print_change(client.extend_artifact(artifact, reason, by=timedelta(days=days)), as_json=as_json)


@app.command()
def restore(artifact: _Artifact, reason: _OptionalReason = "", as_json: Json = False) -> None:
    """Bring back an expired artifact."""
    from tunesmith.client import Client

    with Client() as client:
        _print_change(client.restore_artifact(artifact, reason), as_json=as_json)


@app.command()
def sweep(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would happen.")] = False, as_json: Json = False
) -> None:
    """Expire and delete now what is due. The service does so by itself; this is for operators."""
    from tunesmith.client import Client

    with Client() as client:
        done = client.sweep_artifacts(dry_run=dry_run)
    if as_json:
        print_json(done)
        return
    for name in done.expired:
        print(f"{name} {'would expire' if done.dry_run else 'expired'}")
    for name in done.deleted:
        print(f"{name} {'would be deleted' if done.dry_run else 'deleted'}")
    for notice in done.notices:
        print(f"{notice.artifact} {days_left(notice)}")
    talk(f"{done.removed_object_count} objects, {size(done.removed_bytes)}; {done.orphan_count} orphans watched")
    if done.truncated:
        talk("there is more to do than one sweep does; run it again, or leave it to the service")


def _print_change(artifact: "Artifact", *, as_json: bool) -> None:
    if as_json:
        print_json(artifact)
    else:
        print(f"{artifact.name} {kept(artifact, datetime.now(UTC))}")


def _kind(artifact: "Artifact") -> str:
    from tunesmith.v1.artifact_pb2 import Artifact

    return Artifact.Kind.Name(artifact.kind).lower()


def _print_artifact(artifact: "Artifact") -> None:
    from tunesmith.cli.task_text import hyperparameter_lines

    manifest = artifact.manifest
    print_fields(
        [
            ("name", artifact.name),
            ("kind", _kind(artifact)),
            ("kept", kept(artifact, datetime.now(UTC))),
            ("reason", artifact.reason),
            ("size", size(artifact.size_bytes)),
            ("damaged", "\n".join(artifact.damaged_files)),
            ("made from", manifest.parent),
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
