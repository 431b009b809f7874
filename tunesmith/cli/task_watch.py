"""`tunesmith task watch`: a live line on a terminal, one line per point elsewhere, NDJSON for programs."""

import functools
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli import errors
from tunesmith.cli.options import Json, TaskId
from tunesmith.cli.output import print_json, talk
from tunesmith.names import bare_id

if TYPE_CHECKING:
    from rich.text import Text

    from tunesmith.client import Client
    from tunesmith.streams import ResumingStream
    from tunesmith.v1.task_event_pb2 import StreamEnd, TaskEvent
    from tunesmith.v1.task_pb2 import Task

_ATTEMPTS_BEFORE_SAYING = 4  # about three seconds


def watch(
    task: TaskId,
    after: Annotated[int, typer.Option(help="Only events after this sequence number.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Follow a task until it ends.

    Exit code 0 when it succeeded, 3 when it failed or was cancelled. Ctrl-C detaches; the task goes on.
    """
    from tunesmith.client import Client

    with Client() as client:
        follow(client, task, after_sequence=after, as_json=as_json)


def follow(
    client: "Client", task: str, *, after_sequence: int, as_json: bool, succeeded: Callable[[], None] | None = None
) -> None:
    """Follow to the end and exit with the task's exit code; `succeeded` says what came of it, instead of the artifact's name."""
    stream = client.watch_task(task, after_sequence, on_interruption=_say_when_it_lasts)
    try:
        with stream:
            _show(stream, as_json=as_json)
    except KeyboardInterrupt as detached:
        talk(f"detached; the task goes on. Come back with: tunesmith task watch {bare_id(task)} --after {stream.last_sequence}")
        raise typer.Exit(errors.INTERRUPTED) from detached
    if stream.end is not None:
        say = succeeded or (None if as_json else functools.partial(_say_next_step, client, task, stream.end.artifact))
        raise typer.Exit(_conclude(stream.end, say, as_json=as_json))


def _say_when_it_lasts(attempts: int) -> None:
    if attempts == _ATTEMPTS_BEFORE_SAYING:
        talk("no connection; reconnecting")


def _show(stream: "ResumingStream[TaskEvent]", *, as_json: bool) -> None:
    if as_json:
        for event in stream:
            print_json(event, compact=True)
        return
    with live_line() as update:
        for event in stream:
            update(event)


def live_line() -> AbstractContextManager[Callable[["TaskEvent"], None]]:
    """A context whose value shows an event: redraws the line on a terminal, prints lines elsewhere."""
    return _LiveLine() if sys.stdout.isatty() else nullcontext(_print_event)


class _LiveLine(AbstractContextManager[Callable[["TaskEvent"], None]]):
    """One line that is redrawn, with warnings above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        from tunesmith.cli.task_view import TaskView

        self._view = TaskView()
        self._console = Console(highlight=False)
        self._live = Live(self._line(), console=self._console, refresh_per_second=8)

    def __enter__(self) -> Callable[["TaskEvent"], None]:
        self._live.start()
        return self._update

    def __exit__(self, *_: object) -> None:
        self._live.update(self._line(), refresh=True)
        self._live.stop()

    def _line(self) -> "Text":
        return self._view.line(self._console.width)

    def _update(self, event: "TaskEvent") -> None:
        self._view.apply(event)
        if note := _note(event):
            self._console.print(note, markup=False, emoji=False, style="yellow", soft_wrap=True)
        self._live.update(self._line())


def _print_event(event: "TaskEvent") -> None:
    """Points are the result, the rest is talk."""
    from tunesmith.cli.task_view import metric_line

    if event.WhichOneof("event") == "step_metrics":
        print(metric_line(event), flush=True)
    elif event.WhichOneof("event") == "state_change":
        from tunesmith.cli.task_text import state_name

        talk(f"{state_name(event.state_change.to_state)}: {event.state_change.reason}")
    elif note := _note(event):
        talk(note)


def _note(event: "TaskEvent") -> str:
    """What deserves to be seen above the line; empty for the rest."""
    from tunesmith.cli.event_text import NOTES

    kind = event.WhichOneof("event") or ""
    return NOTES[kind](getattr(event, kind)) if kind in NOTES else ""


def _say_next_step(client: "Client", task: str, artifact: str) -> None:
    from tunesmith.cli.artifact_life import kept_of

    found = client.get_task(task)
    talk(f"succeeded: {artifact} {kept_of(client, artifact, found.name)}".rstrip())
    talk(f"try it: tunesmith model chat {artifact}" if _chats(found) else f"look at it: tunesmith artifact show {artifact}")
    if found.evaluation_task or found.HasField("evaluation_result"):
        later = f", once {found.evaluation_task} is done" if found.evaluation_task else ""
        talk(f"whether it helped: tunesmith eval show {task}{later}")


def _chats(task: "Task") -> bool:
    from tunesmith.v1.task_spec_pb2 import FineTuning

    return task.spec.HasField("fine_tuning") and task.spec.fine_tuning.method != FineTuning.CLASSIFICATION


def _conclude(end: "StreamEnd", succeeded: Callable[[], None] | None, *, as_json: bool) -> int:
    """Say how it ended; the exit code."""
    from tunesmith.v1.task_pb2 import Task

    if end.state == Task.SUCCEEDED:
        if succeeded is not None:
            succeeded()
        return errors.OK
    if end.HasField("error"):
        errors.show_reason(end.error.reason, end.error.message)
        errors.show_hint(end.error.hint)
    elif not as_json:
        talk("cancelled")
    return errors.TASK_FAILED
