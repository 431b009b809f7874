"""Starts the ranks of a training run as the trainer's supervisor does, and reads what they report."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from tests.ports import free_port
from tests.rank_forks import fork_rank

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Outcome:
    """A finished run."""

    exit_codes: list[int]
    events: list[dict[str, Any]]
    log: str
    directory: Path

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["kind"] == kind]

    def values(self, name: str) -> list[float]:
        """Every value of a metric in order of steps."""
        return [event["values"][name] for event in self.of_kind("metrics") if name in event["values"]]


class Ranks:
    """A run in progress; a context manager that leaves no process behind.

    Its ranks have done their imports as those of a warm supervisor have; `is_cold` ones do them when they need them.
    """

    def __init__(
        self, directory: Path, config: dict[str, Any], module: str = "services.trainer.training", *, is_cold: bool = False
    ) -> None:
        self.directory = directory
        self._module = module
        self.events: list[dict[str, Any]] = []
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "config.json"
        path.write_text(json.dumps(config | {"output_dir": str(directory / "output")}))
        (directory / "log").write_bytes(b"")
        reader, writer = Pipe(duplex=False)
        count, port = config["hyperparameters"]["num_processes"], free_port()
        start = self._start if is_cold else self._fork
        self._processes = [start(path, _environment(rank, count, port), writer) for rank in range(count)]
        writer.close()
        self._arrived = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(reader,), name="events")
        self._thread.start()

    def __enter__(self) -> "Ranks":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            _exit_code(process)
        self._thread.join()

    def wait_for(self, kind: str, seconds: float = 120, *, count: int = 1) -> None:
        """Until so many records of this kind have arrived."""
        with self._arrived:
            arrived = self._arrived.wait_for(lambda: sum(event["kind"] == kind for event in self.events) >= count, seconds)
        assert arrived, f"no {kind} within {seconds} s: {self.events}"

    def kill(self) -> None:
        """SIGKILL to every rank at once, at whatever each is doing."""
        for process in self._processes:
            process.kill()

    def terminate(self) -> None:
        for process in self._processes:
            process.terminate()

    def finish(self, seconds: float = 200) -> Outcome:
        """Until every rank has ended."""
        codes = [_exit_code(process, seconds) for process in self._processes]
        self._thread.join(seconds)
        return Outcome(codes, self.events, (self.directory / "log").read_text(), self.directory)

    def _fork(self, path: Path, environment: Mapping[str, str], writer: Connection) -> ForkServerProcess:
        return fork_rank(self._module, path, environment, self.directory / "log", writer)

    def _start(self, path: Path, environment: Mapping[str, str], writer: Connection) -> subprocess.Popen[bytes]:
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", self._module, str(path)],
                env={**environment, "TUNESMITH_EVENTS_FD": str(writer.fileno())},
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[writer.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def _read(self, reader: Connection) -> None:
        with reader, os.fdopen(os.dup(reader.fileno())) as lines:
            for line in lines:
                with self._arrived:
                    self.events.append(json.loads(line))
                    self._arrived.notify_all()


def _environment(rank: int, count: int, port: int) -> dict[str, str]:
    return os.environ | {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", str(ROOT)))),
    }


def _exit_code(process: ForkServerProcess | subprocess.Popen[bytes], seconds: float | None = None) -> int:
    """Waits for it; as Popen.returncode."""
    if isinstance(process, subprocess.Popen):
        return process.wait(seconds)
    process.join(seconds)
    assert process.exitcode is not None, f"it still runs after {seconds} s"
    return process.exitcode
