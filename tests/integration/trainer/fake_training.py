"""A training process without torch: does what `script.json` beside its configuration says, one verb after the other."""

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
    """A child that ignores SIGTERM and, if told so, has a session of its own."""
    child = subprocess.Popen([sys.executable, "-c", IGNORES_SIGTERM], stdout=subprocess.PIPE, start_new_session=step["detached"])
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


def show_environment(step: dict, directory: pathlib.Path) -> None:
    sys.stdout.write(json.dumps({name: os.environ.get(name) for name in step["names"]}) + "\n")


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
    "sleep": lambda step, _: time.sleep(step["seconds"]),
    "exit": lambda step, _: sys.exit(step["code"]),
    "signal": lambda step, _: os.kill(os.getpid(), step["number"]),
    "ignore_sigterm": lambda *_: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "make": lambda step, directory: (directory / step["file"]).touch(),
}

if __name__ == "__main__":
    main()
