"""`tunesmith task checkpoints | save | retry | clone`: what a task has learned, and how to go on from there."""

from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.options import Json, TaskId
from tunesmith.cli.output import print_json, print_table, talk, when
from tunesmith.names import bare_id

if TYPE_CHECKING:
    from tunesmith.v1.task_manager_service_pb2 import Checkpoint
    from tunesmith.v1.task_pb2 import Task

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A hyperparameter to change, for example learning_rate=1e-5; repeatable."),
]


def checkpoints(task: TaskId, as_json: Json = False) -> None:
    """List the checkpoints of a task, newest step first."""
    from tunesmith.client import Client

    with Client() as client:
        found = client.list_checkpoints(task)
    if as_json:
        for checkpoint in found:
            print_json(checkpoint, compact=True)
        return
    headers = ["STEP", "EVAL LOSS", "LABELS", "ATTEMPT", "SIZE", "CREATED", "NAME"]
    print_table(headers, [_row(checkpoint) for checkpoint in found], "no checkpoint is stored")


def save(
    task: TaskId,
    label: Annotated[str, typer.Option(help="What to call it; a checkpoint with a label is not replaced by later ones.")] = "",
    as_json: Json = False,
) -> None:
    """Save a checkpoint of a running task after its step under way, and wait until it is stored."""
    from tunesmith.client import Client
    from tunesmith.v1.task_event_pb2 import TaskEvent

    with Client() as client:
        asked = client.save_checkpoint(task, label)
        for event in client.watch_task(task, asked.after_sequence, [TaskEvent.CHECKPOINT_SAVED]):
            saved = event.checkpoint_saved
            if not label or label in saved.labels:
                print_json(saved) if as_json else print(f"{saved.name} is stored as {saved.artifact}")
                return
    talk("the task ended before the checkpoint was stored")
    raise typer.Exit(1)


def retry(
    task: TaskId,
    *,
    settings: Settings = None,
    from_start: Annotated[bool, typer.Option("--from-start", help="Begin anew instead of continuing.")] = False,
    as_json: Json = False,
) -> None:
    """Try a failed or cancelled task again; it continues from its last checkpoint."""
    from tunesmith.client import Client
    from tunesmith.hyperparameters import parse_settings

    with Client() as client:
        _tell(client.retry_task(task, hyperparameters=parse_settings(settings or []), from_start=from_start), as_json=as_json)


def clone(
    task: TaskId,
    *,
    settings: Settings = None,
    name: Annotated[str | None, typer.Option(help="What to call the new task; default: as the other one.")] = None,
    as_json: Json = False,
) -> None:
    """Create a new task with the description of another one."""
    from tunesmith.client import Client
    from tunesmith.hyperparameters import parse_settings

    with Client() as client:
        _tell(client.clone_task(task, display_name=name, hyperparameters=parse_settings(settings or [])), as_json=as_json)


def _row(checkpoint: "Checkpoint") -> list[str]:
    loss = f"{checkpoint.eval_loss:.4f}" if checkpoint.HasField("eval_loss") else ""
    return [
        str(checkpoint.step),
        f"{loss} (best)" if checkpoint.best else loss,
        ", ".join(checkpoint.labels),
        str(checkpoint.attempt),
        f"{checkpoint.size_bytes / 1e6:.1f} MB",
        when(checkpoint.create_time),
        checkpoint.name,
    ]


def _tell(task: "Task", *, as_json: bool) -> None:
    if as_json:
        print_json(task)
    else:
        print(task.name)
        talk(f"watch it: tunesmith task watch {bare_id(task.name)}")
