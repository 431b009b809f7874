"""`tunesmith up` as a person runs it, with real Postgres and S3 and stand-ins for the services."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tunesmith.local.daemon import running as running_stack
from tunesmith.local.ports import is_free, pick_free
from tunesmith.local.state import DataDirectory

pytestmark = pytest.mark.integration

FAKES = Path(__file__).parent / "fake_services"
DEADLINE_SECONDS = 90.0


class Bench:
    """Runs `tunesmith` on a data directory of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.directory = DataDirectory(root / "data")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TUNESMITH_")}
        self.environment = {**kept, "PYTHONPATH": str(FAKES), "TUNESMITH_DATA_DIR": str(self.directory.root)}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "tunesmith.cli", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        with (self.root / "output").open("w") as output:
            return subprocess.Popen(
                self.command("up", *arguments), env=self.environment, cwd=self.root, stdout=output, stderr=output, text=True
            )

    def wait_ready(self) -> None:
        until(self._is_ready, self.output)

    def _is_ready(self) -> bool:
        state = running_stack(self.directory)
        return state is not None and state.ready

    def output(self) -> str:
        return (self.root / "output").read_text()

    def processes(self) -> list[str]:
        """Command lines of everything that belongs to this bench."""
        return [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline", "environ"]) if self._is_ours(p)]

    def _is_ours(self, process: psutil.Process) -> bool:
        if process.pid == os.getpid() or process.info["cmdline"] in (None, []):
            return False
        environment = process.info["environ"] or {}
        named = environment.get("TUNESMITH_DATA_DIR") == str(self.directory.root)
        return named or any(str(self.directory.root) in word for word in process.info["cmdline"])


def until(condition, explain=lambda: "") -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.05)


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.run("down")
    assert bench.processes() == []


@pytest.fixture
def light(bench, postgres_server, s3_server):
    """A bench on the session's servers: for rules in which embedded ones play no part."""
    bench.environment |= {
        "TUNESMITH_POSTGRES_DSN": postgres_server.dsn,
        "TUNESMITH_S3_ENDPOINT": s3_server.endpoint,
        "TUNESMITH_S3_ACCESS_KEY": s3_server.access_key,
        "TUNESMITH_S3_SECRET_KEY": s3_server.secret_key,
    }
    return bench


def test_up_status_down_and_everything_is_kept(bench):
    started = bench.run("up", "--detach", "--free-ports")
    assert started.returncode == 0, started.stderr
    status = json.loads(bench.run("status", "--json").stdout)
    assert status["healthy"]
    assert [s["name"] for s in status["services"]] == [
        "postgres",
        "object_store",
        "storage",
        "task_manager",
        "trainer",
        "inference",
        "gateway",
    ]
    assert bench.run("doctor").returncode == 0
    settings = (bench.directory.root / "settings.json").read_text()
    ports = [int(service["address"].rpartition(":")[2]) for service in status["services"]]

    assert bench.run("down").returncode == 0
    assert bench.processes() == []
    assert all(map(is_free, ports))
    assert bench.run("status").returncode == 5

    assert bench.run("up", "--detach", "--free-ports").returncode == 0
    assert (bench.directory.root / "settings.json").read_text() == settings
    again = json.loads(bench.run("status", "--json").stdout)
    assert [service["address"] for service in again["services"]] == [service["address"] for service in status["services"]]


def test_a_second_up_on_the_same_directory_says_who_runs_it(light):
    light.run("up", "--detach", "--free-ports")
    pid = running_stack(light.directory).supervisor.pid
    for arguments in (["up"], ["up", "--detach"]):
        second = light.run(*arguments)
        assert second.returncode == 1
        assert "error[ALREADY_RUNNING]" in second.stderr
        assert f"(pid {pid})" in second.stderr
    assert light.run("status").returncode == 0


def test_a_taken_port_is_named_before_anything_is_started(bench):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = bench.run("up", "--free-ports", "--port", f"storage={port}")
    assert result.returncode == 1
    assert f"port {port} of storage is taken by" in result.stderr
    assert "--port storage=NUMBER" in result.stderr
    assert not (bench.directory.root / "postgres").exists()


def test_given_ports_are_used(light):
    port = pick_free(1)[0]
    light.run("up", "--detach", "--free-ports", "--port", f"storage={port}")
    assert running_stack(light.directory).addresses["storage"] == f"127.0.0.1:{port}"


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything(light, stop):
    process = light.start("--free-ports")
    light.wait_ready()
    process.send_signal(stop)
    assert process.wait(timeout=DEADLINE_SECONDS) == 0
    assert light.processes() == []
    assert not (light.directory.root / "stack.json").exists()
    assert "stopped; everything is kept" in light.output()


def test_kill_9_of_the_supervisor_leaves_nothing_and_the_next_up_works(bench):
    process = bench.start("--free-ports")
    bench.wait_ready()
    process.kill()
    process.wait()
    until(lambda: bench.processes() == [])
    assert bench.run("status").returncode == 5
    assert bench.run("up", "--detach", "--free-ports").returncode == 0


@pytest.mark.parametrize(
    ("name", "kind"), [("storage", "light"), ("trainer", "light"), ("postgres", "bench"), ("object_store", "bench")]
)
def test_a_killed_part_comes_back_and_that_is_said(name, kind, request):
    bench = request.getfixturevalue(kind)
    process = bench.start("--free-ports")
    bench.wait_ready()
    old = running_stack(bench.directory).processes[name]
    os.kill(old.pid, signal.SIGKILL)

    def is_back() -> bool:
        state = running_stack(bench.directory)
        return state is not None and state.processes[name] != old

    until(is_back)
    assert "was killed by SIGKILL; starting it again" in bench.output()
    assert bench.run("status").returncode == 0
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=DEADLINE_SECONDS) == 0


def test_servers_of_ones_own_are_used_instead_of_embedded_ones(light):
    assert light.run("up", "--detach", "--free-ports").returncode == 0
    assert sorted(running_stack(light.directory).processes) == ["gateway", "inference", "storage", "task_manager", "trainer"]
    assert not (light.directory.root / "postgres").exists()


def test_logs_are_readable_on_the_terminal_and_raw_in_files(light):
    process = light.start("--free-ports")
    light.wait_ready()
    until(lambda: "inference │" in light.output())
    process.send_signal(signal.SIGINT)
    process.wait(timeout=DEADLINE_SECONDS)
    assert "info    service.started name=storage" in light.output()
    raw = (light.directory.logs / "storage.log").read_text().splitlines()
    assert json.loads(raw[0])["event"] == "service.started"


def test_a_service_that_cannot_start_ends_up_with_its_last_words(light, tmp_path):
    broken = tmp_path / "broken"
    (broken / "services").mkdir(parents=True)
    for file in (FAKES / "services").glob("*.py"):
        (broken / "services" / file.name).write_text(file.read_text())
    (broken / "services" / "trainer.py").write_text("import sys; sys.exit('TRAINER_SETTING is not known')")
    light.environment["PYTHONPATH"] = str(broken)
    result = light.run("up", "--detach", "--free-ports")
    assert result.returncode == 1
    assert "trainer ended with exit code 1" in result.stderr
    assert "TRAINER_SETTING is not known" in result.stderr
    assert light.processes() == []
