"""`tunesmith registry lineage`: from the data to a version, and on to the tasks that start from it."""

from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.options import Json
from tunesmith.cli.version_text import format_name

if TYPE_CHECKING:
    from tunesmith.lineage import Lineage, Step
    from tunesmith.v1.registered_model_pb2 import ModelVersion


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(lineage)


def lineage(
    model: Annotated[
        str, typer.Argument(metavar="MODEL[@VERSION]", help="MODEL is its newest version; @ takes a number or an alias.")
    ],
    as_json: Json = False,
) -> None:
    """Tell what a version was made of, task by task, and what was made of it."""
    from tunesmith.client import Client

    with Client() as client:
        found = client.lineage(model)
    if as_json:
        _print_json(found)
        return
    for line in _lines(found):
        print(line)


def _lines(found: "Lineage") -> list[str]:
    version = found.version
    lines = [f"{version.name}  {format_name(version)}, {version.manifest.base_model or 'no base model'}"]
    if version.artifact:
        lines.append(f"  from {version.artifact}, step {version.manifest.step}")
    for depth, step in enumerate(found.steps):
        lines += ["  " * (depth + 2) + line for line in _of_step(step, version if depth == 0 else None)]
    if not found.steps:
        lines.append("  imported: nothing is known of its training")
    lines += [f"started from it: {task.name}  {task.display_name}" for task in found.children]
    return lines


def _of_step(step: "Step", version: "ModelVersion | None") -> list[str]:
    """`version` is what the step has made, if that is at hand: its manifest names the data by checksum."""
    from tunesmith.cli.task_text import state_name

    if step.task is None:
        return [f"by {step.name}, whose record was deleted"]
    lines = [f"by {step.name}  {step.task.display_name} ({state_name(step.task.state)})"]
    sums = {each.dataset: each.sha256 for each in version.manifest.datasets} if version else {}
    lines += [f"  on {dataset}" + (f"  SHA-256 {sums[dataset][:12]}" if sums.get(dataset) else "") for dataset in step.datasets]
    return [*lines, f"  from {step.origin}, step {step.task.origin.step}"] if step.origin else lines


def _print_json(found: "Lineage") -> None:
    import json

    from google.protobuf.json_format import MessageToDict

    def plain(message: object) -> object:
        return MessageToDict(message, preserving_proto_field_name=True)  # type: ignore[arg-type]

    steps = [{"name": step.name, "task": plain(step.task) if step.task else None} for step in found.steps]
    children = [plain(task) for task in found.children]
    print(json.dumps({"version": plain(found.version), "steps": steps, "children": children}, indent=2, ensure_ascii=False))
