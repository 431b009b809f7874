"""`tunesmith demo`: fine-tune a real model, watch it, compare it; what is shown. The work is in `tunesmith.local.demo_run`."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli import errors
from tunesmith.cli.options import DataDir, Json
from tunesmith.names import bare_id

if TYPE_CHECKING:
    from rich.console import Console

    from tunesmith.client import Client
    from tunesmith.local.demo_run import Question, Timings
    from tunesmith.v1.dataset_pb2 import Dataset
    from tunesmith.v1.task_event_pb2 import TaskEvent
    from tunesmith.v1.task_pb2 import Task


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    app.command()(demo)


def demo(
    *,
    data_dir: DataDir = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running at the end.")] = False,
    questions: Annotated[int, typer.Option(min=1, max=80, help="Held-out questions to measure on.")] = 40,
    as_json: Json = False,
) -> None:
    """Fine-tune a real model on this machine and compare it with its base, start to end.

    Uses the stack that runs, or starts one and stops it at the end.
    """
    from rich.console import Console

    from tunesmith.local import daemon, demo_run
    from tunesmith.local.state import data_directory

    screen = _Screen(Console(stderr=as_json, highlight=False), as_json=as_json)
    timings = demo_run.Timings()
    directory = data_directory(data_dir)
    stays = keep or daemon.running(directory) is not None
    with timings.phase("total"), ExitStack() as opened:
        with timings.phase("start"), screen.starting():
            state = opened.enter_context(demo_run.running_stack(directory, keep=keep))
        client = opened.enter_context(demo_run.connect(state))
        summary = _run(client, screen, timings, questions=questions)
    _finish(summary, timings, screen, stays=stays)


def _run(client: "Client", screen: "_Screen", timings: "Timings", *, questions: int) -> dict[str, object]:
    """Every phase on a running stack; what came out."""
    from tunesmith.local import demo_run
    from tunesmith.v1.task_pb2 import Task

    screen.phase("Uploading data", "every row is checked")
    with timings.phase("upload"):
        train, heldout = demo_run.upload(client)
    screen.datasets(train, heldout)
    screen.phase("Fine-tuning", f"{demo_run.DEMO_BASE_MODEL}, LoRA")
    with timings.phase("train"):
        created = demo_run.create(client, train, heldout)
        screen.say(f"{created.name}   (tunesmith task watch {bare_id(created.name)})")
        with screen.training() as show:
            task = demo_run.follow(client, created, show)
    if task.state != Task.SUCCEEDED:
        errors.show_reason(task.error.reason or "TASK_CANCELLED", task.error.message or "the task was cancelled")
        errors.show_hint(task.error.hint)
        raise typer.Exit(errors.TASK_FAILED)
    return {**_describe(task), **_compare(client, task, screen, timings, count=questions)}


def _describe(task: "Task") -> dict[str, object]:
    return {"task": task.name, "artifact": task.artifact, "steps": task.progress.step, "metrics": dict(task.progress.metrics)}


def _compare(client: "Client", task: "Task", screen: "_Screen", timings: "Timings", *, count: int) -> dict[str, object]:
    from tunesmith.local import demo_run

    base, tuned = demo_run.DEMO_BASE_MODEL, task.name
    questions = demo_run.read_questions(demo_run.HELDOUT_FILE, count)
    screen.phase("Comparing", "base and tuned, on questions that were not trained on")
    with timings.phase("compare"):
        answers = [
            {
                "question": q.words,
                "expected": q.expected,
                "base": demo_run.ask(client, base, q),
                "tuned": demo_run.ask(client, tuned, q),
            }
            for q in demo_run.spread(questions, demo_run.SHOWN_QUESTIONS)
        ]
    screen.answers(answers)
    screen.phase("Measuring", f"exact answers to {len(questions)} held-out questions")
    with timings.phase("measure"):
        right = {name: screen.measure(client, model, name, questions) for name, model in (("base", base), ("tuned", tuned))}
    accuracy = {name: count / len(questions) for name, count in right.items()}
    return {"answers": answers, "questions": len(questions), "right": right, "accuracy": accuracy}


def _finish(summary: dict[str, object], timings: "Timings", screen: "_Screen", *, stays: bool) -> None:
    if screen.as_json:
        print(json.dumps({**summary, "seconds": timings.seconds}, indent=2, ensure_ascii=False))
        return
    screen.say("")
    screen.say("   ".join(f"{name} {seconds:.1f} s" for name, seconds in timings.seconds.items()))
    task, artifact = bare_id(str(summary["task"])), bare_id(str(summary["artifact"]))
    screen.phase("Go on", "" if stays else "start the stack again with `tunesmith up`, everything is kept")
    screen.say(f"tunesmith task show {task}")
    screen.say(f'tunesmith model chat tasks/{task} --message "…"')
    screen.say("tunesmith artifact ls")
    screen.say(f"tunesmith artifact download {artifact} ./my-adapter")


class _Screen:
    """What the demo shows; with --json everything but the summary goes to stderr."""

    def __init__(self, console: "Console", *, as_json: bool) -> None:
        self._console = console
        self.as_json = as_json

    def phase(self, title: str, remark: str) -> None:
        """A new phase begins."""
        from rich.text import Text

        self._console.print(
            Text.assemble(("\n▸ ", "cyan"), (title, "bold"), (f"  {remark}" if remark else "", "bright_black")), soft_wrap=True
        )

    def starting(self) -> AbstractContextManager[object]:
        """A phase in which only a spinner moves."""
        self.phase("Starting the stack", "the first start converts the base model, which takes about a minute")
        return self._console.status("  starting") if self._console.is_terminal else nullcontext()

    def say(self, text: str) -> None:
        """A line within the phase."""
        self._console.print(f"  {text}", markup=False, emoji=False, soft_wrap=True)

    def datasets(self, train: "Dataset", heldout: "Dataset") -> None:
        """What validation found."""
        from tunesmith.cli.data_text import summary

        self.say(f"✓ {train.display_name}: {summary(train.statistics)}")
        self.say(f"✓ {heldout.display_name}: {summary(heldout.statistics)}")

    def training(self) -> AbstractContextManager[Callable[["TaskEvent"], None]]:
        """A context whose value shows an event."""
        from tunesmith.cli.task_watch import live_line

        return nullcontext(lambda event: None) if self.as_json else live_line()

    def answers(self, answers: Sequence[dict[str, str]]) -> None:
        """Questions with both answers."""
        for answer in answers:
            self.say(f"“{answer['question']}”")
            self.say(f"    base   {_one_line(answer['base'])}")
            self.say(f"    tuned  {_one_line(answer['tuned'])}   (expected: {answer['expected']})")

    def measure(self, client: "Client", model: str, name: str, questions: "Sequence[Question]") -> int:
        """Count right answers of one model under a progress bar."""
        from rich.progress import Progress

        from tunesmith.local import demo_run

        with Progress(console=self._console, transient=True, disable=not self._console.is_terminal) as progress:
            bar = progress.add_task(f"  {name}", total=len(questions))
            right = demo_run.count_right(client, model, questions, lambda: progress.advance(bar))
        self.say(f"{name:<6} {right}/{len(questions)} right ({right / len(questions):.0%})")
        return right


def _one_line(text: str, most: int = 90) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"
