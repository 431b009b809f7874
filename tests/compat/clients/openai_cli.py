"""The command line that came with `openai` up to 2.34: `openai api …`."""

import json
import os
import pathlib
import subprocess
import sys

OPENAI = str(pathlib.Path(sys.executable).with_name("openai"))


def run(*arguments: str) -> str:
    return subprocess.run([OPENAI, "api", *arguments], check=True, capture_output=True, text=True, timeout=60).stdout


file = json.loads(run("files.create", "-f", os.environ["ROWS"], "-p", "fine-tune"))
assert file["id"] in run("files.list")
# Long enough to be there still when it is cancelled.
long = ("--suffix", "cli", "--hyperparameters", json.dumps({"n_epochs": 100, "batch_size": 1}))
job = json.loads(run("fine_tuning.jobs.create", "-m", os.environ["BASE"], "-F", file["id"], *long))
assert json.loads(run("fine_tuning.jobs.retrieve", "-i", job["id"]))["id"] == job["id"]
assert job["id"] in run("fine_tuning.jobs.list")
json.loads(run("fine_tuning.jobs.cancel", "-i", job["id"]))
assert "fine_tuning.job.event" in run("fine_tuning.jobs.list_events", "-i", job["id"])
assert os.environ["MODEL"] in run("models.list")
said = ("chat.completions.create", "-m", os.environ["MODEL"], "-g", "user", "number 3", "-M", "8", "-t", "0")
assert run(*said).strip() == run(*said, "--stream").strip()
asking = [OPENAI, "api", "models.retrieve", "-i", "none"]
missing = subprocess.run(asking, check=False, capture_output=True, text=True, timeout=60)
assert missing.returncode
assert "none" in missing.stderr
print(json.dumps(["files", "jobs", "events", "chat", "stream", "errors"]))
