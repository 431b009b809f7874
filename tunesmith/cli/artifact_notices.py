"""`tunesmith artifact notices`: what was announced about artifacts."""

from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.artifact_life import days_left
from tunesmith.cli.options import Json
from tunesmith.cli.output import print_json, print_table, when
from tunesmith.names import bare_id

if TYPE_CHECKING:
    from tunesmith.v1.artifact_service_pb2 import ArtifactNotice


def register(app: typer.Typer) -> None:
    """Add the command to those of artifacts."""
    app.command()(notices)


def notices(
    after: Annotated[int, typer.Option(help="Only what came after the notice of this number.", min=0, max=2**63 - 1)] = 0,
    task: Annotated[str, typer.Option(help="Only artifacts of this task.")] = "",
    as_json: Json = False,
) -> None:
    """List what was announced: ends 7, 3 and 1 days before they come, and damaged files. Oldest first."""
    from tunesmith.client import Client

    with Client() as client:
        found = client.list_artifact_notices(after, task)
        if as_json:
            for notice in found:
                print_json(notice, compact=True)
            return
        rows = [(str(n.sequence), when(n.create_time), bare_id(n.artifact), bare_id(n.task), announcement(n)) for n in found]
    print_table(["NUMBER", "AT", "ARTIFACT", "TASK", "WHAT"], rows, "nothing was announced")


def announcement(notice: "ArtifactNotice") -> str:
    """`3 days left, expires 2026-01-19 00:00`, `weights.safetensors is damaged: its object is gone`."""
    from tunesmith.v1.artifact_service_pb2 import ArtifactNotice

    if notice.kind == ArtifactNotice.DAMAGED:
        return f"{notice.path} is damaged: {notice.damage}"
    if notice.kind == ArtifactNotice.EXPIRING:
        return days_left(notice)
    return str(notice.kind)
