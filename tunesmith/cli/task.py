"""`tunesmith task …`: fine-tuning tasks."""

from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli import task_again, task_diff, task_list, task_logs, task_watch
from tunesmith.cli.data_argument import split_weight
from tunesmith.cli.options import Json, TaskId, key_values
from tunesmith.cli.output import print_json, talk
from tunesmith.cli.task_options import (
    Creator,
    Data,
    Description,
    DryRun,
    EvaluationCheckpoints,
    EvaluationData,
    File,
    Label,
    MaxAttempts,
    Method,
    Model,
    Name,
    NoEvaluation,
    NotBefore,
    Origin,
    Priority,
    RunnerLabel,
    Sample,
    Settings,
    Tuning,
    ValidationData,
    ValidationSplit,
    Watch,
)
from tunesmith.names import bare_id

if TYPE_CHECKING:
    from pathlib import Path

    from tunesmith.cli.task_request import Request
    from tunesmith.client import Client
    from tunesmith.v1.task_pb2 import Task

app = typer.Typer(help="Fine-tuning tasks: create, watch, look at, pause, cancel.", no_args_is_help=True)
app.command("ls")(task_list.ls)
app.command("watch")(task_watch.watch)
app.command("logs")(task_logs.logs)
app.command("metrics")(task_logs.metrics)
app.command("checkpoints")(task_again.checkpoints)
app.command("save")(task_again.save)
app.command("retry")(task_again.retry)
app.command("clone")(task_again.clone)
app.command("diff")(task_diff.diff)


@app.command()
def create(
    *,
    data: Data = None,
    model: Model = None,
    name: Name = None,
    description: Description = None,
    method: Method = None,
    tuning: Tuning = None,
    validation_data: ValidationData = None,
    validation_split: ValidationSplit = None,
    eval_data: EvaluationData = None,
    eval_checkpoints: EvaluationCheckpoints = False,
    no_eval: NoEvaluation = False,
    origin: Origin = "",
    settings: Settings = None,
    sample: Sample = None,
    file: File = None,
    priority: Priority = None,
    not_before: NotBefore = None,
    max_attempts: MaxAttempts = None,
    label: Label = None,
    runner_label: RunnerLabel = None,
    creator: Creator = None,
    dry_run: DryRun = False,
    watch: Watch = False,
    as_json: Json = False,
) -> None:
    """Create a fine-tuning task.

    Examples: `tunesmith task create --data train.jsonl --set num_train_epochs=2 --watch`,
    `tunesmith task create --data chat.jsonl --data code.jsonl:0.5 --validation-split 0.1 --dry-run`,
    `tunesmith task create -f task.yaml --model smollm2-360m-instruct`.
    """
    from tunesmith import hyperparameters
    from tunesmith.cli.task_request import Request

    request = Request(
        data=[split_weight(given) for given in data or []],
        model=model,
        name=name,
        description=description,
        method=method,
        tuning=tuning,
        validation_data=validation_data,
        validation_split=validation_split,
        evaluation_data=eval_data,
        evaluation_checkpoints=eval_checkpoints,
        no_evaluation=no_eval,
        origin=origin,
        samples=sample or [],
        priority=priority,
        not_before=not_before,
        max_attempts=max_attempts,
        labels=key_values(label or [], "--label"),
        runner_labels=key_values(runner_label or [], "--runner-label"),
        creator=creator,
        numbers=hyperparameters.build(hyperparameters.parse_settings(settings or [])),
    )
    _ask(request, file, dry_run=dry_run, watch=watch, as_json=as_json)


def _ask(request: "Request", file: "Path | None", *, dry_run: bool, watch: bool, as_json: bool) -> None:
    from tunesmith.cli.task_file import read_task
    from tunesmith.client import Client
    from tunesmith.v1.task_pb2 import Task

    if not request.data and not file:
        raise typer.BadParameter("give the training data with --data, or a whole task with --file", param_hint="--data")
    with Client() as client:
        task = request.over(read_task(file) if file else Task(), client)
        _plan(client, task, as_json=as_json) if dry_run else _create(client, task, watch=watch, as_json=as_json)


def _plan(client: "Client", task: "Task", *, as_json: bool) -> None:
    from tunesmith.cli.task_plan_text import print_plan

    plan = client.plan_task(task)
    print_json(plan) if as_json else print_plan(plan)


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
def show(task: TaskId, as_json: Json = False) -> None:
    """Show one task, what was strange about its run, and the newest answers to its sample prompts."""
    from tunesmith.cli.artifact_life import kept_of
    from tunesmith.cli.event_text import told
    from tunesmith.cli.task_text import print_task
    from tunesmith.client import Client
    from tunesmith.v1.task_event_pb2 import TaskEvent

    with Client() as client:
        found = client.get_task(task)
        if as_json:
            print_json(found)
            return
        events = client.list_events(task, kinds=[TaskEvent.ANOMALY, TaskEvent.SAMPLE_GENERATED])
        print_task(found, kept_of(client, found.artifact, found.name) if found.artifact else "")
        for text in told(events):
            print(text)


@app.command()
def update(
    task: TaskId,
    *,
    name: Annotated[str | None, typer.Option(help="What to call the task from now on.")] = None,
    description: Annotated[str | None, typer.Option(help="Free text.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="All labels the task shall have; repeatable.")
    ] = None,
    no_labels: Annotated[bool, typer.Option("--no-labels", help="Take all labels away.")] = False,
    priority: Annotated[
        int | None, typer.Option(min=-100, max=100, help="Waiting tasks with a higher number start first.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Change what people call a task (name, description, labels) and its priority."""
    from tunesmith.client import Client

    labels = key_values(label or [], "--label") if label or no_labels else None
    with Client() as client:
        found = client.update_task(task, display_name=name, description=description, labels=labels, priority=priority)
    print_json(found) if as_json else print(f"{found.name} is called {found.display_name!r}")


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


@app.command()
def rm(task: TaskId) -> None:
    """Delete a task that has ended, with its events; its artifacts stay until they expire."""
    from tunesmith.client import Client

    with Client() as client:
        client.delete_task(task)
    talk(f"{bare_id(task)} is deleted")


def _show_state(found: "Task", *, as_json: bool) -> None:
    from tunesmith.cli.task_text import state_name

    if as_json:
        print_json(found)
    else:
        print(f"{found.name} is {state_name(found.state)}")
