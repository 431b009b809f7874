"""`tunesmith batch …`: a model answers a whole dataset."""

from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli import ask_options as ask
from tunesmith.cli.options import Json, TaskId
from tunesmith.cli.output import print_fields, print_json, print_table, talk, visible
from tunesmith.cli.task_options import Watch
from tunesmith.names import bare_id

if TYPE_CHECKING:
    from tunesmith.client import Client
    from tunesmith.v1.task_pb2 import Task

app = typer.Typer(help="Generations: a model answers every row of a dataset.", no_args_is_help=True)


@app.command()
def run(
    *,
    model: Annotated[str, typer.Option(help="The model: a base model, tasks/ID, artifacts/ID or models/ID.", show_default=False)],
    data: ask.Data,
    name: ask.Name = "",
    output_name: Annotated[str, typer.Option(help="What to call the new dataset; default: after the task.")] = "",
    system: ask.System = "",
    max_rows: ask.MaxRows = None,
    max_tokens: ask.MaxTokens = None,
    temperature: ask.Temperature = None,
    seed: ask.Seed = None,
    watch: Watch = False,
    as_json: Json = False,
) -> None:
    """Let a model answer every row; the answers become a dataset.

    Rows of text are user turns; a last turn of the assistant is dropped, for it is what the model is asked for.
    Example: `tunesmith batch run --model tasks/ID --data tickets.jsonl --watch`.
    """
    from tunesmith.client import Client

    with Client() as client:
        task = client.generate(
            model,
            ask.dataset(client, data),
            name=ask.named(name, data, "Answers to"),
            output_name=output_name,
            sampling=ask.sampling(max_tokens=max_tokens, temperature=temperature, seed=seed),
            max_rows=max_rows,
            system_prompt=system,
        )
        print_json(task, compact=watch) if as_json else print(task.name)
        if watch:
            _follow(client, task, as_json=as_json)
        elif not as_json:
            talk(f"see what it made: tunesmith batch show {bare_id(task.name)}")


@app.command()
def show(task: TaskId, as_json: Json = False) -> None:
    """Show what a generation made, and the first rows that could not be answered."""
    from tunesmith.client import Client

    with Client() as client:
        found = client.get_task(task)
    print_json(found) if as_json else _show(found)


def _follow(client: "Client", task: "Task", *, as_json: bool) -> None:
    from tunesmith.cli import task_watch

    def conclude() -> None:
        found = client.get_task(task.name)
        print_json(found, compact=True) if as_json else _show(found)

    task_watch.follow(client, bare_id(task.name), after_sequence=0, as_json=as_json, succeeded=conclude)


def _show(task: "Task") -> None:
    from tunesmith.cli.task_text import state_name

    if not task.spec.HasField("generation"):
        talk(f"{task.name} is no generation; look at it: tunesmith task show {bare_id(task.name)}")
        return
    if not task.HasField("generation_result"):
        talk(f"{task.name} is {state_name(task.state)} and has made nothing yet: {task.state_reason}")
        return
    result = task.generation_result
    print_fields(
        [
            ("dataset", result.dataset),
            ("until then", f"{result.partial_artifact} (answers.jsonl)" if result.partial_artifact else ""),
            ("answered", f"{result.answered_count} of {result.row_count}"),
            ("cut", f"{result.cut_count} answers ended because of their length" if result.cut_count else ""),
            ("tokens", f"{result.completion_token_count:,}"),
        ]
    )
    if result.failed_count:
        talk(f"{result.failed_count} rows could not be answered")
        failed = [(str(row.row), row.reason, visible(row.message)) for row in result.failed_rows]
        print_table(["ROW", "REASON", "MESSAGE"], failed, "", breaks=True)
