"""A training process without torch: does what `script.json` beside its configuration says, one verb after the other."""

import faulthandler
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

IGNORES_SIGTERM = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('child', flush=True); time.sleep(600)"
)


def main() -> None:
    directory = pathlib.Path(sys.argv[1]).parent
    config = json.loads(pathlib.Path(sys.argv[1]).read_text())
    rank = int(os.environ["RANK"])
    # The script travels in the data, where the real training process finds its examples.
    lines = pathlib.Path(config["train_file"]).read_text().splitlines()
    for step in json.loads(lines[0])["script"]:
        if rank in step.get("ranks", [rank]):
            VERBS[step["do"]](step, directory)


def events(step: dict, directory: pathlib.Path) -> None:
    lines = "".join(json.dumps(event) + "\n" for event in step["events"])
    os.write(int(os.environ["TUNESMITH_EVENTS_FD"]), lines.encode())


def steps(step: dict, directory: pathlib.Path) -> None:
    for number in range(step["first"], step["last"] + 1):
        events({"events": [{"kind": "metrics", "step": number, "values": {"loss": 1.0 / number}}]}, directory)
        time.sleep(step.get("pause", 0))


def raw(step: dict, directory: pathlib.Path) -> None:
    os.write(step.get("fd", 1), bytes.fromhex(step["hex"]) * step.get("times", 1))


def say(step: dict, directory: pathlib.Path) -> None:
    print(step["text"], file=sys.stderr if step.get("stderr") else sys.stdout, flush=True)


def flood(step: dict, directory: pathlib.Path) -> None:
    for number in range(step["lines"]):
        sys.stdout.write(f"line {number}\n")
    sys.stdout.flush()


def spawn(step: dict, directory: pathlib.Path) -> None:
    """A child that ignores SIGTERM and, if told so, has a session of its own and nothing in its environment."""
    child = subprocess.Popen(
        [sys.executable, "-c", IGNORES_SIGTERM],
        stdout=subprocess.PIPE,
        start_new_session=step["detached"],
        env={} if step.get("bare") else None,
    )
    assert child.stdout
    child.stdout.readline()
    (directory / "child.pid").write_text(str(child.pid))


def write_result(step: dict, directory: pathlib.Path) -> None:
    output = directory / "output"
    output.mkdir(exist_ok=True)
    (output / "adapter_config.json").write_text('{"r": 4}')
    (output / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 10_000)
    result = {
        "kind": "ADAPTER",
        "step": step["step"],
        "metrics": {"loss": 0.5},
        "rendered_rows_sha256": "ab" * 32,
        "versions": {"fake": "1.0"},
    }
    (directory / "result.json").write_text(json.dumps(result))


def port_taken_once(step: dict, directory: pathlib.Path) -> None:
    marker = directory / "tried"
    if not marker.exists():
        marker.write_text(os.environ["MASTER_PORT"])
        sys.exit("DistNetworkError: EADDRINUSE, address already in use")


def wait_for(step: dict, directory: pathlib.Path) -> None:
    while not (directory / step["file"]).exists():
        time.sleep(0.01)


def answer_with_stacks(step: dict, directory: pathlib.Path) -> None:
    faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True)


def beat(step: dict, directory: pathlib.Path) -> None:
    for number in range(1, step["times"] + 1):
        events({"events": [{"kind": "beat", "step": number, "phase": ""}]}, directory)
        time.sleep(0.01)


def needs_rows(step: dict, directory: pathlib.Path) -> None:
    """Memory suffices for so many rows in a forward pass; else it ends as `how` says."""
    cut = directory / "checkpoints" / "batch_cut.json"
    rows = json.loads(cut.read_text())["per_device_train_batch_size"] if cut.exists() else 8
    if rows <= step["rows"]:
        return
    if step["how"] == "kernel":
        (directory / "vmstat").write_text(f"oom_kill {8 // rows}")
        os.kill(os.getpid(), signal.SIGKILL)
    failure = {"kind": "failure", "reason": "OUT_OF_MEMORY", "message": f"no room for {rows} rows"}
    events({"events": [failure | {"metadata": {"longest_row_tokens": "900"}}]}, directory)
    (directory / "short").touch()
    sys.exit(1)


def misses_the_others(step: dict, directory: pathlib.Path) -> None:
    """As a rank whose peer is gone."""
    if not (directory / "checkpoints" / "batch_cut.json").exists():
        wait_for({"file": "short"}, directory)
        events({"events": [{"kind": "failure", "reason": "TRAINING_FAILED", "message": "connection closed by peer"}]}, directory)
        sys.exit(1)


def show_environment(step: dict, directory: pathlib.Path) -> None:
    sys.stdout.write(json.dumps({name: os.environ.get(name) for name in step["names"]}) + "\n")


def show_process(step: dict, directory: pathlib.Path) -> None:
    shown = {"pid": os.getpid(), "arguments": sys.argv[1:], "stdin": sys.stdin.read()}
    sys.stdout.write(json.dumps(shown) + "\n")


VERBS = {
    "events": events,
    "steps": steps,
    "raw": raw,
    "say": say,
    "flood": flood,
    "spawn": spawn,
    "result": write_result,
    "port_taken_once": port_taken_once,
    "wait_for": wait_for,
    "environment": show_environment,
    "process": show_process,
    "answer_with_stacks": answer_with_stacks,
    "beat": beat,
    "needs_rows": needs_rows,
    "misses_the_others": misses_the_others,
    "sleep": lambda step, _: time.sleep(step["seconds"]),
    "exit": lambda step, _: sys.exit(step["code"]),
    "signal": lambda step, _: os.kill(os.getpid(), step["number"]),
    "ignore_sigterm": lambda *_: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "make": lambda step, directory: (directory / step["file"]).touch(),
}

if __name__ == "__main__":
    main()
