"""Starts the ranks of a training run as the trainer's supervisor does, and reads what they report."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ports import free_port

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
    """A run in progress; a context manager that leaves no process behind."""

    def __init__(self, directory: Path, config: dict[str, Any], module: str = "services.trainer.training") -> None:
        self.directory = directory
        self._module = module
        self.events: list[dict[str, Any]] = []
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "config.json"
        path.write_text(json.dumps(config | {"output_dir": str(directory / "output")}))
        reader, writer = os.pipe()
        with (directory / "log").open("wb") as log:
            count = config["hyperparameters"]["num_processes"]
            port = free_port()
            self._processes = [self._start(path, rank, count, port, writer, log) for rank in range(count)]
        os.close(writer)
        self._arrived = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(reader,), name="events")
        self._thread.start()

    def __enter__(self) -> "Ranks":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
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
            process.send_signal(signal.SIGTERM)

    def finish(self, seconds: float = 200) -> Outcome:
        """Until every rank has ended."""
        codes = [process.wait(seconds) for process in self._processes]
        self._thread.join(seconds)
        return Outcome(codes, self.events, (self.directory / "log").read_text(), self.directory)

    def _start(self, path: Path, rank: int, count: int, port: int, writer: int, log: Any) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
            "TUNESMITH_EVENTS_FD": str(writer),
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", str(ROOT)))),
        }
        command = [sys.executable, "-m", self._module, str(path)]
        return subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, pass_fds=[writer], stdin=subprocess.DEVNULL
        )

    def _read(self, reader: int) -> None:
        with os.fdopen(reader) as lines:
            for line in lines:
                with self._arrived:
                    self.events.append(json.loads(line))
                    self._arrived.notify_all()
