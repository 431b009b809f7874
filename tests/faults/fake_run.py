"""One run of the fake trainer: everything that is known of it stands in its directory, so the trainer may be killed at will."""

import asyncio
import contextlib
import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from services.trainer import processes
from tests.faults import fake_worker
from tunesmith.v1 import task_error_pb2, task_event_pb2, task_pb2, trainer_service_pb2

GRACE_SECONDS = 0.3
_POLL_SECONDS = 0.02
_CLASSES = {"TRAINING_FAILED": task_error_pb2.ERROR_CLASS_PLATFORM}


class FakeRun:
    """Made by `create` or from a directory that is there."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.asked = trainer_service_pb2.Run.FromString((path / "run").read_bytes())
        self._worker: subprocess.Popen[bytes] | None = None

    @classmethod
    def create(cls, root: pathlib.Path, asked: trainer_service_pb2.Run, pace: float, fence: float) -> "FakeRun":
        """A new run, whose worker is not started yet."""
        path = root / asked.name.removeprefix("runs/")
        scratch = root / f".{path.name}"
        scratch.mkdir()
        numbers = asked.hyperparameters
        plan = {"steps": numbers.max_steps or 3, "manner": numbers.seed, "attempt": asked.attempt, "pace": pace, "fence": fence}
        asked.create_time.GetCurrentTime()
        (scratch / "plan.json").write_text(json.dumps(plan))
        (scratch / "run").write_bytes(asked.SerializeToString())
        scratch.rename(path)
        return cls(path)

    # ---- what it knows

    def lines(self) -> list[dict[str, Any]]:
        """The whole lines of its journal."""
        with contextlib.suppress(FileNotFoundError):
            text = (self.path / "journal.jsonl").read_bytes()
            return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]
        return []

    def events(self, lines: Sequence[dict[str, Any]]) -> list[task_event_pb2.TaskEvent]:
        """The events in lines of the journal."""
        return [_event(self.asked, line) for line in lines if "number" in line]

    def end(self) -> dict[str, Any] | None:
        """The line of its end."""
        lines = self.lines()
        return lines[-1] if lines and "end" in lines[-1] else None

    def is_active(self) -> bool:
        """Whether it has no end yet."""
        return self.end() is None

    def wish(self) -> str:
        """What somebody asked of it; empty = nothing."""
        path = self.path / "wish"
        return path.read_text() if path.exists() else ""

    def to_proto(self) -> trainer_service_pb2.Run:
        """As the trainer tells it."""
        run = trainer_service_pb2.Run()
        run.CopyFrom(self.asked)
        lines = self.lines()
        run.head_sequence = sum("number" in line for line in lines)
        run.state = task_pb2.Task.CANCELLING if self.wish() else task_pb2.Task.STARTING
        if any(line.get("kind") == "started" for line in lines) and not self.wish():
            run.state = task_pb2.Task.RUNNING
        if lines and "end" in lines[-1]:
            fill_end(self.asked, lines[-1], run)
        return run

    # ---- what it does

    def ask(self, wish: str) -> None:
        """Records a wish: CANCELLED or the reason of a failure. The first stays."""
        if self.is_active() and not self.wish():
            scratch = self.path / ".wish"
            scratch.write_text(wish)
            scratch.rename(self.path / "wish")

    async def keep(self, predecessors: Callable[[], Sequence["FakeRun"]]) -> None:
        """Until it has ended: its worker is started once, ended when that is wished, and buried when it died."""
        while any(run.is_active() for run in predecessors()) and not self.wish():  # noqa: ASYNC110 - processes end them
            await asyncio.sleep(_POLL_SECONDS)
        if not (self.path / "journal.jsonl").exists() and not self.wish():
            self._start()
        asked: float | None = None
        while self._is_busy() and self.is_active():
            if self.wish():
                asked = self._press(asked)
            await asyncio.sleep(_POLL_SECONDS)
        await self._bury()
        if self._worker is not None:
            await asyncio.to_thread(self._worker.wait)

    def _start(self) -> None:
        command = [sys.executable, "-I", "-S", fake_worker.__file__, str(self.path)]
        environment = {processes.RUN_VARIABLE: str(self.path), "PATH": os.environ.get("PATH", "")}
        # Made before the worker is: a trainer that is killed in between must not start a second one.
        (self.path / "journal.jsonl").touch()
        self._worker = subprocess.Popen(command, env=environment, start_new_session=True, stdin=subprocess.DEVNULL)

    def _press(self, asked: float | None) -> float:
        if asked is None:
            self._send(signal.SIGTERM)
            return time.monotonic()
        if time.monotonic() - asked > GRACE_SECONDS:
            self._send(signal.SIGKILL)
        return asked

    def _send(self, number: signal.Signals) -> None:
        for pid in processes.of_run(self.path, None):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    async def _bury(self) -> None:
        """No process is left; then the end is written, so that whoever reads of it finds none."""
        while pids := await asyncio.to_thread(processes.of_run, self.path, None):
            processes.kill(pids)
            await asyncio.sleep(_POLL_SECONDS)
        if self.is_active():
            state, reason = self._outcome()
            with (self.path / "journal.jsonl").open("ab") as journal:
                # A worker that was killed in the middle of a line leaves a part of one.
                torn = b"" if (self.path / "journal.jsonl").read_bytes()[-1:] in (b"", b"\n") else b"\n"
                journal.write(torn + json.dumps({"end": state, "reason": reason, "time": time.time()}).encode() + b"\n")

    def _outcome(self) -> tuple[str, str]:
        """State and reason: what the worker told; else what was wished; else it was lost."""
        if told := [line for line in self.lines() if "result" in line]:
            return told[-1]["result"], told[-1]["reason"]
        return ("CANCELLED", "") if self.wish() == "CANCELLED" else ("FAILED", self.wish() or "RUN_LOST")

    def _is_busy(self) -> bool:
        if self._worker is not None and self._worker.poll() is None:
            return True
        with contextlib.suppress(FileNotFoundError), (self.path / "journal.jsonl").open("rb") as journal:
            try:
                fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


def write_contact(root: pathlib.Path) -> None:
    """Now somebody has asked the trainer of these runs for something, by a clock that nobody sets."""
    scratch = root / ".contact.new"
    scratch.write_text(str(time.clock_gettime(time.CLOCK_BOOTTIME)))
    scratch.rename(root / ".contact")


def artifact_of(run: str) -> str:
    """What a run that succeeds leaves; of this run alone."""
    return f"artifacts/{uuid.uuid5(uuid.NAMESPACE_URL, run)}"


def fill_end(asked: trainer_service_pb2.Run, line: dict[str, Any], message: Any) -> None:
    """State, error and artifact of a run's end, into a Run or a StreamEnd."""
    message.state = task_pb2.Task.State.Value(line["end"])
    if line["end"] == "SUCCEEDED":
        message.artifact = artifact_of(asked.name)
    if line["end"] == "FAILED":
        error = task_error_pb2.TaskError(reason=line["reason"], message=f"{asked.name}: {line['reason']}", hint="look")
        error.error_class = _CLASSES.get(line["reason"], task_error_pb2.ERROR_CLASS_TRANSIENT)
        message.error.CopyFrom(error)


def _event(asked: trainer_service_pb2.Run, line: dict[str, Any]) -> task_event_pb2.TaskEvent:
    event = task_event_pb2.TaskEvent(sequence=line["number"], attempt=asked.attempt)
    event.time.FromMicroseconds(round(line["time"] * 1e6))
    match line["kind"]:
        case "started":
            event.training_started.total_steps = line["steps"]
        case "step":
            event.step_metrics.step = line["step"]
            event.step_metrics.values.update({"loss": 1 / line["step"], "epoch": 0.5, "tokens": 8.0 * line["step"]})
        case "artifact":
            event.artifact_created.artifact = artifact_of(asked.name)
        case _:
            text = f"{asked.name} says {line['number']}"
            event.log_entry.CopyFrom(task_event_pb2.LogEntry(severity="INFO", source="stdout", text=text))
    return event
