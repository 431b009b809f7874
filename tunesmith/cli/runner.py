"""`tunesmith runner …`: the trainers that take tasks."""

from typing import TYPE_CHECKING

import typer

from tunesmith.cli.options import Json
from tunesmith.cli.output import print_json, print_table, size, talk, when

if TYPE_CHECKING:
    from tunesmith.v1.task_manager_service_pb2 import Runner

app = typer.Typer(help="Runners: the trainers that take tasks.", no_args_is_help=True)


@app.callback()
def _several() -> None:
    """Keeps `ls` a command of its own while it is the only one."""


@app.command()
def ls(as_json: Json = False) -> None:
    """List runners: whether they take tasks, what is free there, and what tasks may ask of them."""
    from tunesmith.client import Client

    with Client() as client:
        runners = client.list_runners()
    if as_json:
        for runner in runners:
            print_json(runner, compact=True)
        return
    headers = ["RUNNER", "STATE", "FREE", "MEMORY FREE", "DEVICE", "TASKS", "VERSION", "HEARD", "LABELS"]
    print_table(headers, map(_row, runners), "the task manager knows no runner")
    for runner in runners:
        if runner.state_reason:
            talk(f"{runner.address}: {runner.state_reason}")


def _row(runner: "Runner") -> list[str]:
    return [
        runner.address,
        _state(runner),
        f"{runner.free_processes} of {runner.total_processes}" if runner.total_processes else "",
        _memory(runner),
        runner.device,
        str(len(runner.tasks)),
        runner.version,
        when(runner.last_heard_time),
        ",".join(f"{key}={value}" for key, value in sorted(runner.labels.items())),
    ]


def _state(runner: "Runner") -> str:
    """In lower case; a number where this version does not know the name."""
    from tunesmith.v1.task_manager_service_pb2 import Runner as Message

    known = runner.state in Message.State.values()
    return Message.State.Name(runner.state).lower() if known else str(runner.state)


def _memory(runner: "Runner") -> str:
    if not runner.total_memory_bytes:
        return ""
    free = size(runner.free_memory_bytes) if runner.free_memory_bytes else "?"
    return f"{free} of {size(runner.total_memory_bytes)}"
