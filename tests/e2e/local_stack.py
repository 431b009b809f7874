"""A whole stack as a user starts it, on free ports and a directory of its own; used by the end-to-end tests."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil

from tunesmith.client import Client
from tunesmith.v1 import task_pb2

START_DEADLINE_SECONDS = 180.0
CLI = (sys.executable, "-c", "from tunesmith.cli import main; main()")


def eventually(condition: Callable[[], object], seconds: float = 30.0, what: str = "") -> None:
    """Polls until `condition` holds; fails with `what` at the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        time.sleep(0.05)


class LocalStack:
    """One `tunesmith up` process and the command line that talks to it."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TUNESMITH_")},
            "TUNESMITH_DATA_DIR": str(directory),
            "OMP_NUM_THREADS": "1",
            # Imports that nobody waits for take time from every test: those of runs to come, and those that measure the machine.
            "TUNESMITH_TRAINER_WARM_PROCESSES": "0",
            "TUNESMITH_TRAINER_SPEED_MODULE": "",
            "NO_COLOR": "1",
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> pathlib.Path:
        """What `up` printed."""
        return self.directory.parent / f"{self.directory.name}.up.log"

    def up(self, *options: str) -> float:
        """Starts the stack and waits until it is ready; returns the seconds it took."""
        started = time.monotonic()
        with self.log.open("ab") as log:
            command = [*CLI, "up", "--data-dir", str(self.directory), *options]
            self._process = subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        eventually(self._is_ready, START_DEADLINE_SECONDS, self.log.read_text)
        return time.monotonic() - started

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ctrl-C; returns the exit code of `up`."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(60)

    def state(self) -> dict:
        """What `up` says of itself while it runs."""
        return json.loads((self.directory / "stack.json").read_text())

    def pid(self, child: str) -> int:
        """The process of one child."""
        return int(self.state()["processes"][child]["pid"])

    def kill(self, child: str) -> None:
        """kill -9 of one child, then waits until its successor is ready."""
        before = self.pid(child)
        psutil.Process(before).kill()
        eventually(lambda: self.pid(child) != before, 90, f"{child} was not started again")

    def run(self, *arguments: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """One call of the command line."""
        done = subprocess.run(
            [*CLI, *arguments], env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str, timeout: float = 120) -> dict:
        """One call with --json that prints one object."""
        return json.loads(self.run(*arguments, "--json", timeout=timeout).stdout)

    def json_lines(self, *arguments: str, timeout: float = 120) -> list[dict]:
        """One call with --json that prints one object a line."""
        return [json.loads(line) for line in self.run(*arguments, "--json", timeout=timeout).stdout.splitlines()]

    def task(self, name: str) -> task_pb2.Task:
        """A task as it is now; not by the command line, whose start takes a second of a processor from what is waited for."""
        addresses = self.state()["addresses"]
        with Client(task_manager=addresses["task_manager"], storage=addresses["storage"]) as client:
            return client.get_task(name)

    def state_of(self, name: str) -> str:
        """The state of a task."""
        return task_pb2.Task.State.Name(self.task(name).state)

    def descendants(self) -> list[psutil.Process]:
        """Every process below `up`, supervisors and ranks included."""
        assert self._process is not None
        return psutil.Process(self._process.pid).children(recursive=True)

    def ranks(self) -> list[psutil.Process]:
        """The training processes of this stack."""
        return [process for process in self.descendants() if _is_rank(process)]

    def supervisors(self) -> list[psutil.Process]:
        """Their supervisors."""
        return [process for process in self.descendants() if _is_supervisor(process)]

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"`tunesmith up` ended with {self._process.returncode}:\n{self.log.read_text()}"
        with contextlib.suppress(OSError, ValueError):
            return bool(self.state().get("ready"))
        return False


def _is_rank(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()[1:3] == ["-m", "services.trainer.training"]
    return False


def _is_supervisor(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()[1:3] == ["-m", "services.trainer.supervisor"]
    return False


@contextlib.contextmanager
def local_stack(directory: pathlib.Path, *options: str, **variables: str) -> Iterator[LocalStack]:
    """A stack that is up inside the block and gone after it, whatever happens."""
    stack = LocalStack(directory)
    stack.environment |= variables
    try:
        stack.up("--free-ports", *options)
        yield stack
    finally:
        process = stack._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
