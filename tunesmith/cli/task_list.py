"""`tunesmith task ls`: tasks by what they are, once or as they change."""

import datetime
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunesmith.cli.options import Json, key_values
from tunesmith.cli.output import print_json, print_table, talk, when
from tunesmith.names import bare_id

if TYPE_CHECKING:
    from tunesmith.client import Client
    from tunesmith.v1.task_pb2 import Task


def ls(
    *,
    state: Annotated[list[str] | None, typer.Option(help="Only these states, for example running; repeatable.")] = None,
    name: Annotated[str, typer.Option(help="Only tasks whose name contains this.")] = "",
    text: Annotated[str, typer.Option(help="Only tasks whose name or description contains this.")] = "",
    model: Annotated[str, typer.Option(help="Only tasks trained from this base model.")] = "",
    method: Annotated[list[str] | None, typer.Option(help="Only these methods, for example dpo; repeatable.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only tasks of these kinds, for example export; repeatable.")] = None,
    creator: Annotated[str, typer.Option(help="Only tasks that this one asked for.")] = "",
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only tasks with this label; repeatable.")] = None,
    since: Annotated[datetime.datetime | None, typer.Option(help="Only tasks created at this local time or later.")] = None,
    totals: Annotated[bool, typer.Option("--totals", help="Only count the tasks by state.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show tasks as they change, from now on.")] = False,
    as_json: Json = False,
) -> None:
    """List tasks, newest first.

    Totals of a filter that finds many are not counted to the end: 1,000+ (with --json the states in `at_least`).
    Examples: `tunesmith task ls --state running`, `tunesmith task ls --label team=search --totals`.
    """
    from tunesmith.cli.task_text import states_named
    from tunesmith.client import Client

    conditions: dict[str, Any] = {
        "text": text,
        "base_model": model,
        "methods": method or [],
        "kinds": kind or [],
        "creator": creator,
        "labels": key_values(label or [], "--label"),
        "from_create_time": since,
    }
    states = states_named(state or [])
    with Client() as client:
        if totals:
            _count(client, conditions | {"states": states}, as_json=as_json)
        elif watch:
            _watch(client, conditions | {"states": states}, as_json=as_json)
        else:
            _list(list(client.list_tasks(states, name, **conditions)), as_json=as_json)


def _list(tasks: "list[Task]", *, as_json: bool) -> None:
    from tunesmith.cli.task_text import kind_name, progress_text, state_name

    if as_json:
        for task in tasks:
            print_json(task, compact=True)
        return
    rows = [
        (bare_id(t.name), t.display_name, kind_name(t.spec), state_name(t.state), progress_text(t), when(t.create_time))
        for t in tasks
    ]
    nothing = "no tasks; create one with: tunesmith task create --data FILE"
    print_table(["ID", "NAME", "KIND", "STATE", "PROGRESS", "CREATED"], rows, nothing)


def _count(client: "Client", conditions: dict[str, Any], *, as_json: bool) -> None:
    from tunesmith.cli.task_text import state_name
    from tunesmith.tasks import AtLeast

    found = {state_name(state): total for state, total in client.count_tasks(**conditions).items()}
    if as_json:
        more = [state for state, total in found.items() if isinstance(total, AtLeast)]
        print(json.dumps(found | ({"at_least": more} if more else {})))
    else:
        print_table(["STATE", "TASKS"], [(state, str(total)) for state, total in found.items()], "no tasks")


def _watch(client: "Client", conditions: dict[str, Any], *, as_json: bool) -> None:
    from tunesmith.cli.task_text import progress_text, state_name

    talk("shows tasks as they change; Ctrl-C ends it")
    for task in client.watch_tasks(lambda attempts: talk(f"reconnecting ({attempts})"), **conditions):
        if as_json:
            print_json(task, compact=True)
        else:
            print(f"{bare_id(task.name)}  {task.display_name}  {state_name(task.state)}  {progress_text(task)}", flush=True)
