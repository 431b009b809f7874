"""A run directory with a supervisor of its own and a fake training process; shared by the tests of the supervisor."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from services.trainer import cgroup
from services.trainer.history import History
from services.trainer.journal_reader import read

HERE = Path(__file__).parent


class Supervised:
    """A run directory and its supervisor."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.journal = directory / "journal.jsonl"
        self.program = "services.trainer.supervisor"
        self.started: list[subprocess.Popen[bytes]] = []

    def start(
        self, *script: dict, processes: int = 1, module: str = "fake_training", stall_policy: str = "warn"
    ) -> subprocess.Popen[bytes]:
        data = self.directory / "train.jsonl"
        data.write_text(json.dumps({"script": script}) + "\n")
        numbers = {"num_processes": processes, "max_seq_length": 2048, "stall_policy": stall_policy}
        numbers |= {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
        config = {"train_file": str(data), "hyperparameters": numbers}
        (self.directory / "config.json").write_text(json.dumps(config))
        return self.spawn(module)

    def spawn(self, module: str = "fake_training") -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", self.program, str(self.directory)]
        options = ["--module", module, "--grace", "0.5", "--stall-floor", "0.5"]
        environment = {**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parents[2]}"}
        process = subprocess.Popen([*command, *options], env=environment, stderr=subprocess.PIPE, start_new_session=True)
        self.started.append(process)
        return process

    def close(self) -> None:
        """Nothing of a test outlives it."""
        for process in self.started:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=30)
        cgroup.end(History().after(read(self.journal)).group)

    def wait_for(self, name: str) -> None:
        until((self.directory / name).exists, f"{name} was not made")

    def anomalies(self) -> list[dict]:
        return [record for record in read(self.journal) if record.get("kind") == "anomaly"]

    def logs(self) -> list[dict]:
        return [record for record in read(self.journal) if record.get("kind") == "log"]

    def controls(self) -> dict[str, dict]:
        return {record["control"]: record for record in read(self.journal) if "control" in record}


def until(predicate, what: str) -> None:
    deadline = time.monotonic() + 60
    while not predicate():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
