"""`tunesmith artifact export`: an artifact as it is, or in another form, becomes a version of a registered model."""

import enum
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.options import Json
from tunesmith.cli.output import print_json, talk
from tunesmith.cli.progress import transfer_progress

if TYPE_CHECKING:
    from tunesmith.client import Client
    from tunesmith.v1.artifact_pb2 import Artifact
    from tunesmith.v1.task_event_pb2 import TaskEvent


class _Format(enum.StrEnum):
    ADAPTER = "adapter"
    MODEL = "model"
    MERGED = "merged"
    GGUF = "gguf"


class _GgufType(enum.StrEnum):
    F16 = "f16"
    F32 = "f32"
    Q8_0 = "q8_0"


_MADE = (_Format.MERGED, _Format.GGUF)


def export(
    artifact: Annotated[str, typer.Argument(metavar="ARTIFACT", help="ID or name of an artifact.")],
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Registered model it becomes a version of; made when new.")],
    *,
    format: Annotated[
        _Format | None,
        typer.Option("--format", "-f", help="What to make of it; default: what it is.", show_default=False),
    ] = None,
    gguf_type: Annotated[_GgufType | None, typer.Option(help="Of the matrices of a GGUF file.", show_default="f16")] = None,
    alias: Annotated[str, typer.Option(help="Alias that points to the new version from now on.")] = "",
    description: Annotated[str, typer.Option("--description", "-d", help="What it is for; goes into the model card.")] = "",
    request_id: Annotated[str, typer.Option(help="Repeating the command with it makes nothing new.", show_default=False)] = "",
    as_json: Json = False,
) -> None:
    """Keep an artifact for good, as a version of a registered model.

    Of an adapter, `--format merged` and `--format gguf` first let a task make that form, unless an earlier one has; the command
    waits for it.

    Examples: `tunesmith artifact export ID mail`, `tunesmith artifact export ID mail --format gguf --gguf-type q8_0`.
    """
    from tunesmith.client import Client

    if gguf_type and format is not _Format.GGUF:
        raise typer.BadParameter("belongs to --format gguf", param_hint="--gguf-type")
    with Client() as client:
        if format in _MADE:
            artifact = _made(client, client.get_artifact(artifact), format, gguf_type or "")
        with transfer_progress("verifying") as progress:
            version = client.export_artifact(
                artifact,
                model,
                format=format or "",
                alias=alias,
                description=description,
                request_id=request_id,
                progress=progress,
            )
    if as_json:
        print_json(version)
        return
    print(version.name)
    talk(f"checksums verified; get it with: tunesmith registry download {version.name}")


def _made(client: "Client", artifact: "Artifact", format: str, gguf_type: str) -> str:
    """The artifact's name in that form: its own, one that there is, or that of a task's result."""
    from tunesmith.v1.artifact_pb2 import Artifact

    if Artifact.Kind.Name(artifact.kind).lower() == format:
        return artifact.name
    if found := client.find_export(artifact.name, format, gguf_type=gguf_type):
        talk(f"{found.name} is that already")
        return found.name
    task = client.create_export(artifact.name, format, gguf_type=gguf_type)
    talk(f"{task.name} makes it")
    return _result(client, task.name)


def _result(client: "Client", task: str) -> str:
    """What the task has made, once it is done; ends the command when it fails."""
    from tunesmith.cli import errors
    from tunesmith.v1.task_pb2 import Task

    for event in client.watch_task(task):
        if text := _note(event):
            talk(text)
    ended = client.get_task(task)
    if ended.state == Task.SUCCEEDED:
        return ended.artifact
    if ended.HasField("error"):
        errors.show_reason(ended.error.reason, ended.error.message)
        errors.show_hint(ended.error.hint)
    else:
        talk(f"{task} was cancelled")
    raise typer.Exit(errors.TASK_FAILED)


def _note(event: "TaskEvent") -> str:
    from tunesmith.cli.task_text import state_name

    kind = event.WhichOneof("event")
    if kind == "log_entry":
        return event.log_entry.text
    if kind == "state_change":
        return f"{state_name(event.state_change.to_state)}: {event.state_change.reason}"
    return ""
