"""`tunesmith task …`: fine-tuning tasks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli import task_logs, task_watch
from tunesmith.cli.options import Json, TaskId
from tunesmith.cli.output import print_json, print_table, talk, transfer_progress, when
from tunesmith.names import bare_id

if TYPE_CHECKING:
    from tunesmith.client import Client
    from tunesmith.v1.task_manager_service_pb2 import TaskPlan
    from tunesmith.v1.task_pb2 import Task

app = typer.Typer(help="Fine-tuning tasks: create, watch, look at, pause, cancel.", no_args_is_help=True)
app.command("watch")(task_watch.watch)
app.command("logs")(task_logs.logs)
app.command("metrics")(task_logs.metrics)

DEFAULT_BASE_MODEL = "smollm2-135m-instruct"


@app.command()
def create(
    *,
    data: Annotated[str, typer.Option(help="Training data: a dataset's ID, or a file, which is uploaded first.")] = "",
    model: Annotated[str, typer.Option(help="The base model to start from.")] = DEFAULT_BASE_MODEL,
    name: Annotated[str | None, typer.Option(help="What to call the task; default: after the data.")] = None,
    description: Annotated[str, typer.Option(help="Free text.")] = "",
    method: Annotated[str, typer.Option(help="What is learned from an example: sft.")] = "sft",
    tuning: Annotated[str, typer.Option(help="Which weights move: lora.")] = "lora",
    validation_data: Annotated[str, typer.Option(help="Held-out data, as --data; its loss is measured while training.")] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A hyperparameter, for example lora.rank=8; repeatable."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="The whole task as JSON or YAML, in the form `task show --json` prints.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow the task until it ends.")] = False,
    as_json: Json = False,
) -> None:
    """Create a fine-tuning task.

    Examples: `tunesmith task create --data train.jsonl --set num_train_epochs=2 --watch`,
    `tunesmith task create -f task.yaml --dry-run`.
    """
    from tunesmith import hyperparameters
    from tunesmith.client import Client
    from tunesmith.tasks import describe_task

    if bool(data) == bool(file):
        raise typer.BadParameter("give the training data with --data, or a whole task with --file", param_hint="--data")
    numbers = hyperparameters.build(hyperparameters.parse_settings(settings or []))
    with Client() as client:
        if file:
            from tunesmith.cli.task_file import read_task

            task = read_task(file)
            task.display_name = task.display_name if name is None else name
            own = task.spec.fine_tuning.hyperparameters
            if numbers.lora.target_modules:  # merging would add them to those of the file
                own.lora.ClearField("target_modules")
            own.MergeFrom(numbers)
        else:
            task = describe_task(
                name=Path(data).stem if name is None else name,
                description=description,
                base_model=model,
                dataset=_dataset(client, data),
                validation_dataset=_dataset(client, validation_data) if validation_data else None,
                method=method,
                tuning=tuning,
                hyperparameters=numbers,
            )
        _plan(client, task, as_json=as_json) if dry_run else _create(client, task, watch=watch, as_json=as_json)


def _dataset(client: "Client", given: str) -> str:
    """A dataset's name; a file is uploaded first."""
    path = Path(given)
    looks_like_file = path.suffix in (".jsonl", ".json", ".txt") or given.startswith((".", "/", "~"))
    if not path.is_file() and not looks_like_file:
        return given
    dataset = client.upload_dataset(path, None, transfer_progress(path.name))
    talk(f"uploaded {path.name} as {dataset.name}")
    return dataset.name


def _plan(client: "Client", task: "Task", *, as_json: bool) -> None:
    plan = client.plan_task(task)
    if as_json:
        print_json(plan)
    else:
        _print_plan(plan)


def _print_plan(plan: "TaskPlan") -> None:
    from tunesmith.cli.task_text import hyperparameter_lines

    print(f"{plan.total_steps:,} steps over {plan.example_count:,} examples")
    for line in hyperparameter_lines(plan.effective_hyperparameters):
        print(f"  {line}")
    for warning in plan.warnings:
        talk(f"warning: {warning}")


def _create(client: "Client", task: "Task", *, watch: bool, as_json: bool) -> None:
    created = client.create_task(task)
    identifier = bare_id(created.name)
    if as_json:
        print_json(created, compact=watch)
    else:
        print(created.name)
    if watch:
        task_watch.follow(client, identifier, after_sequence=0, as_json=as_json)
    elif not as_json:
        talk(f"watch it: tunesmith task watch {identifier}")


@app.command()
def ls(
    state: Annotated[list[str] | None, typer.Option(help="Only these states, for example running; repeatable.")] = None,
    name: Annotated[str, typer.Option(help="Only tasks whose name contains this.")] = "",
    as_json: Json = False,
) -> None:
    """List tasks, newest first."""
    from tunesmith.cli.task_text import progress_text, state_name, states_named
    from tunesmith.client import Client

    with Client() as client:
        tasks = client.list_tasks(states_named(state or []), name)
        if as_json:
            for task in tasks:
                print_json(task, compact=True)
            return
        rows = [(bare_id(t.name), t.display_name, state_name(t.state), progress_text(t), when(t.create_time)) for t in tasks]
    print_table(
        ["ID", "NAME", "STATE", "PROGRESS", "CREATED"], rows, "no tasks; create one with: tunesmith task create --data FILE"
    )


@app.command()
def show(task: TaskId, as_json: Json = False) -> None:
    """Show one task."""
    from tunesmith.cli.task_text import print_task
    from tunesmith.client import Client

    with Client() as client:
        found = client.get_task(task)
    print_json(found) if as_json else print_task(found)


@app.command()
def cancel(task: TaskId, reason: Annotated[str, typer.Option(help="Why; it is recorded.")] = "", as_json: Json = False) -> None:
    """Ask for the end of a task."""
    from tunesmith.client import Client

    with Client() as client:
        _show_state(client.cancel_task(task, reason), as_json=as_json)


@app.command()
def pause(task: TaskId, reason: Annotated[str, typer.Option(help="Why; it is recorded.")] = "", as_json: Json = False) -> None:
    """Bring a task that starts or runs to rest with a checkpoint, and free its trainer."""
    from tunesmith.client import Client

    with Client() as client:
        _show_state(client.pause_task(task, reason), as_json=as_json)


@app.command()
def resume(task: TaskId, as_json: Json = False) -> None:
    """Queue a paused task again; it continues from its last checkpoint."""
    from tunesmith.client import Client

    with Client() as client:
        _show_state(client.resume_task(task), as_json=as_json)


def _show_state(found: "Task", *, as_json: bool) -> None:
    from tunesmith.cli.task_text import state_name

    if as_json:
        print_json(found)
    else:
        print(f"{found.name} is {state_name(found.state)}")
