"""`tunesmith eval …`: whether a model got better."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli import ask_options as ask
from tunesmith.cli.options import Json, TaskId
from tunesmith.cli.output import print_json, talk
from tunesmith.cli.task_options import Watch
from tunesmith.errors import NotFound
from tunesmith.names import bare_id

if TYPE_CHECKING:
    from tunesmith.client import Client
    from tunesmith.v1.grader_pb2 import Grader
    from tunesmith.v1.task_pb2 import Task

app = typer.Typer(help="Evaluations: compare models on questions with known answers.", no_args_is_help=True)

_WORST = 5
_GENERAL = "general"
_QUESTIONS = Path(__file__).parents[1] / "local" / "general" / "questions.jsonl"
_CONTAINS = {"type": "string_check", "name": "knows", "operation": "ilike"}
Models = Annotated[
    list[str],
    typer.Option(
        "--model", help="A model; repeatable. The first is what the others are compared with; `base` is their base model."
    ),
]
Graders = Annotated[
    list[str] | None,
    typer.Option("--grader", metavar="JSON|FILE", help="A grader as OpenAI writes it, or a file of one or several; repeatable."),
]


@app.command()
def run(
    *,
    model: Models,
    data: ask.Data,
    grader: Graders = None,
    name: ask.Name = "",
    system: ask.System = "",
    max_rows: ask.MaxRows = None,
    spread: Annotated[bool, typer.Option("--spread", help="Spread those rows over the whole data.")] = False,
    max_tokens: ask.MaxTokens = None,
    temperature: ask.Temperature = None,
    seed: ask.Seed = None,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Ask the kept checkpoints of each fine-tuning before its result, too.")
    ] = False,
    perplexity: Annotated[bool, typer.Option(help="Whether to measure how probable the known answers are.")] = True,
    watch: Watch = False,
    as_json: Json = False,
) -> None:
    """Let models answer questions and compare the answers with the known ones.

    Example: `tunesmith eval run --model base --model tasks/ID --data heldout.jsonl --watch`.
    With `--data general`, 30 built-in questions tell whether tuning made the model forget what it knew.
    """
    from tunesmith.client import Client

    if spread and max_rows is None:
        raise typer.BadParameter("needs --max-rows: without it all rows are asked", param_hint="--spread")
    graders: list[Grader | dict[str, str]] = [each for given in grader or [] for each in _graders(given)]
    if data == _GENERAL:
        data, graders, name = str(_QUESTIONS), graders or [_CONTAINS], name or "General questions"
    with Client() as client:
        task = client.evaluate(
            model,
            ask.dataset(client, data),
            graders=graders,
            name=ask.named(name, data, "Evaluation on"),
            sampling=ask.sampling(max_tokens=max_tokens, temperature=temperature, seed=seed),
            max_rows=max_rows,
            spread_rows=spread,
            system_prompt=system,
            perplexity=perplexity,
            checkpoints=checkpoints,
        )
        print_json(task, compact=watch) if as_json else print(task.name)
        if watch:
            _follow(client, task, as_json=as_json)
        elif not as_json:
            talk(f"see what it finds: tunesmith eval show {bare_id(task.name)}")


@app.command()
def show(
    task: TaskId,
    worst: Annotated[int, typer.Option(min=0, max=100, help="Rows that got worse to show.")] = _WORST,
    as_json: Json = False,
) -> None:
    """Show what an evaluation found: scores with their 95 % intervals, verdicts, and the rows that got worse most.

    Of a fine-tuning with evaluation data it shows the evaluation that followed on it.
    """
    from tunesmith.client import Client

    with Client() as client:
        found = client.get_task(task)
        print_json(found) if as_json else _show(client, found, worst)


@app.command()
def rows(
    task: TaskId,
    wrong: Annotated[bool, typer.Option("--wrong", help="Only rows that the last model did not get fully right.")] = False,
) -> None:
    """Print every row of an evaluation as a JSON line: question, known answer, answers and scores of all models."""
    from tunesmith.client import Client

    with Client() as client:
        right = _right(client, task) if wrong else 0.0
        for row in client.evaluation_rows(task):
            if not wrong or next(iter(row["answers"][-1]["scores"].values())) < right:
                print(json.dumps(row, ensure_ascii=False))


def _right(client: "Client", task: str) -> float:
    """The first score of an answer that is fully right; of an expression the number from which on one has passed."""
    found = client.get_task(task)
    asked = client.get_task(found.evaluation_task) if found.evaluation_task else found
    first = next(iter(asked.spec.evaluation.graders), None)
    if first is not None and first.score_model.HasField("range_max"):
        return first.score_model.range_max
    return first.multi.pass_threshold if first is not None and first.multi.HasField("pass_threshold") else 1.0


def _follow(client: "Client", task: "Task", *, as_json: bool) -> None:
    from tunesmith.cli import task_watch

    def conclude() -> None:
        found = client.get_task(task.name)
        print_json(found, compact=True) if as_json else _show(client, found, _WORST)

    task_watch.follow(client, bare_id(task.name), after_sequence=0, as_json=as_json, succeeded=conclude)


def _show(client: "Client", task: "Task", worst: int) -> None:
    from tunesmith.cli.eval_text import print_result, print_rows, worst_rows
    from tunesmith.cli.task_text import state_name

    if task.state == task.SUCCEEDED and not (task.HasField("evaluation_result") or task.evaluation_task):
        talk(f"{task.name} has no evaluation: it had no data for one, or did not want one; compare it: tunesmith eval run")
        return
    if not task.HasField("evaluation_result"):
        asked = client.get_task(task.evaluation_task) if task.evaluation_task else task
        talk(f"{asked.name} is {state_name(asked.state)} and has found nothing yet: {asked.state_reason}")
        return
    print_result(task.evaluation_result)
    numbers = worst_rows(task.evaluation_result, worst)
    # A classifier from before they were kept has none.
    has_rows = task.evaluation_task or task.evaluation_result.rows_artifact or not task.spec.HasField("fine_tuning")
    if numbers and has_rows:
        try:
            print_rows(client.evaluation_rows(task.name), numbers)
        except NotFound as error:
            talk(f"the rows that got worse cannot be shown: {error.message}")


def _graders(given: str) -> list["Grader"]:
    """One or several, from JSON or a file of it."""
    from tunesmith.graders import grader

    text = given if given.lstrip().startswith(("{", "[")) else Path(given).read_text(encoding="utf-8")
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{given[:80]!r} is not JSON: {error}", param_hint="--grader") from error
    return [grader(each) for each in (value if isinstance(value, list) else [value])]
