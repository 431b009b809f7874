"""`up`, `down`, `status` and `doctor`: which options reach the stack, what is printed, and the exit code."""

import json
import os
import time
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from tunesmith.cli.app import app
from tunesmith.local import daemon, doctor, stack, status
from tunesmith.local.doctor import Check
from tunesmith.local.errors import LocalError
from tunesmith.local.processes import identify
from tunesmith.local.state import DataDirectory, ProcessId, StackState
from tunesmith.local.status import ServiceStatus, StackStatus


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def run(root):
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def started(monkeypatch):
    """What `up` would run in the foreground."""
    asked = []
    monkeypatch.setattr(stack, "run", lambda directory, options, screen: asked.append((directory.root, options)))
    return asked


@pytest.fixture
def detached(monkeypatch):
    """What `up --detach` would run in the background."""
    asked = []

    def start(directory, options):
        asked.append((directory.root, options))
        DataDirectory(directory.root).create()
        (directory.root / "api_key").write_text("sk-1")
        addresses = {"storage": "127.0.0.1:6000", "gateway": "127.0.0.1:6001"}
        state = StackState("1", ProcessId(4711, 1.0), 1.0, addresses, ready=True)
        return daemon.Background(SimpleNamespace(pid=4711), state)

    monkeypatch.setattr(daemon, "start", start)
    return asked


class TestUp:
    @pytest.mark.parametrize(
        ("arguments", "options"),
        [
            ([], stack.Options(ports={})),
            (["--free-ports"], stack.Options(ports={}, free_ports=True)),
            (["--no-base-model"], stack.Options(ports={}, with_base_model=False)),
            (["--port", "storage=6000", "--port", "task-manager=6001"], stack.Options({"storage": 6000, "task_manager": 6001})),
        ],
    )
    def test_options_reach_the_stack(self, run, root, started, arguments, options):
        result = run("up", *arguments)
        assert result.exit_code == 0, result.stderr
        assert started == [(root, options)]

    def test_the_directory_of_the_option_goes_before_the_environments(self, run, started, tmp_path):
        run("up", "--data-dir", tmp_path / "other")
        assert started[0][0] == tmp_path / "other"

    @pytest.mark.parametrize("detach", [[], ["--detach"]])
    def test_a_wrong_port_starts_nothing(self, run, started, detached, detach):
        result = run("up", "--port", "storage=0", *detach)
        assert result.exit_code == 2
        assert "error[PORT_INVALID]: --port storage=0 is not SERVICE=PORT" in result.stderr
        assert started == detached == []

    @pytest.mark.parametrize(
        ("arguments", "passed_on"),
        [
            ([], []),
            (["--free-ports"], ["--free-ports"]),
            (["--no-base-model", "--free-ports"], ["--free-ports", "--no-base-model"]),
            (["--port", "storage=6000"], ["--port=storage=6000"]),
        ],
    )
    def test_detached_the_same_options_are_passed_on(self, run, root, detached, arguments, passed_on):
        assert run("up", "-d", *arguments).exit_code == 0
        assert detached == [(root, passed_on)]

    def test_detached_the_addresses_are_the_result_and_the_rest_is_talk(self, run, root, detached):
        result = run("up", "--detach")
        assert result.stdout == "storage       127.0.0.1:6000\ngateway       127.0.0.1:6001\n"
        assert result.stderr.splitlines() == [
            f"starting in the background, data in {root}",
            "OpenAI clients: OPENAI_BASE_URL=http://127.0.0.1:6001/v1 OPENAI_API_KEY=sk-1",
            "ready (pid 4711); stop it with: tunesmith down",
        ]

    def test_a_stack_that_runs_already_is_exit_code_1_with_its_owner(self, run, root):
        directory = DataDirectory(root)
        directory.create()
        with directory.locked():
            for arguments in ([], ["--detach"]):
                result = run("up", *arguments)
                assert result.exit_code == 1
                assert f"error[ALREADY_RUNNING]: a stack on {root} is running already (pid {os.getpid()})" in result.stderr

    def test_a_directory_that_cannot_be_made_is_said(self, run, tmp_path):
        (tmp_path / "file").touch()
        result = run("up", "--data-dir", tmp_path / "file")
        assert result.exit_code == 1
        assert "error[DATA_DIRECTORY_UNUSABLE]" in result.stderr


class TestDown:
    @pytest.mark.parametrize(("ended", "said"), [(True, "stopped; everything is kept in"), (False, "nothing runs on")])
    def test_it_says_what_it_did_and_is_fine_with_both(self, run, root, monkeypatch, ended, said):
        monkeypatch.setattr(daemon, "stop", lambda directory: ended)
        result = run("down")
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr == f"{said} {root}\n"

    def test_the_stack_of_another_directory_is_not_touched(self, run, monkeypatch, tmp_path):
        stopped = []
        monkeypatch.setattr(daemon, "stop", lambda directory: stopped.append(directory.root))
        run("down", "--data-dir", tmp_path / "other")
        assert stopped == [tmp_path / "other"]


def service(name="storage", *, healthy=True, health="SERVING", restarts=0) -> ServiceStatus:
    return ServiceStatus(name, health, healthy, "127.0.0.1:1", 77 if healthy else 0, 2_000_000, restarts)


class TestStatus:
    @pytest.fixture
    def report(self, monkeypatch):
        def set_report(*services):
            healthy = all(service.healthy for service in services)
            answer = StackStatus(healthy, True, "/data", 12, "0:01:01", list(services))
            monkeypatch.setattr(status, "inspect", lambda directory: answer)

        return set_report

    def test_healthy_services_are_a_table_and_exit_code_0(self, run, report):
        report(service(), service("postgres", health="running", restarts=2))
        result = run("status")
        assert result.exit_code == 0
        assert [line.split() for line in result.stdout.splitlines()] == [
            ["SERVICE", "HEALTH", "ADDRESS", "PID", "MEMORY", "RESTARTS"],
            ["storage", "✓", "SERVING", "127.0.0.1:1", "77", "2.0", "MB", "0"],
            ["postgres", "✓", "running", "127.0.0.1:1", "77", "2.0", "MB", "2"],
        ]
        assert result.stderr == "data /data, supervisor pid 12, up for 0:01:01\n"

    @pytest.mark.parametrize("health", ["down", "NOT_SERVING", "unreachable"])
    def test_one_that_is_not_well_is_exit_code_1_and_shown(self, run, report, health):
        report(service(), service("trainer", healthy=False, health=health))
        result = run("status")
        assert result.exit_code == 1
        assert f"✗ {health}" in result.stdout

    @pytest.mark.parametrize(("healthy", "code"), [(True, 0), (False, 1)])
    def test_as_json_it_has_every_fact_and_the_same_exit_code(self, run, report, healthy, code):
        report(service(healthy=healthy))
        result = run("status", "--json")
        content = json.loads(result.stdout)
        assert result.exit_code == code
        assert set(content) == {"healthy", "ready", "data_dir", "supervisor_pid", "uptime", "services"}
        assert set(content["services"][0]) == {"name", "health", "healthy", "address", "pid", "memory_bytes", "restarts"}
        assert (content["healthy"], content["services"][0]["memory_bytes"]) == (healthy, 2_000_000)

    def test_a_state_left_by_a_stack_that_is_gone_is_exit_code_5(self, run, root):
        directory = DataDirectory(root)
        directory.create()
        directory.write_stack(StackState("1", identify(os.getpid()), time.time(), {"storage": "127.0.0.1:1"}))
        result = run("status")
        assert (result.exit_code, result.stdout) == (5, "")
        assert result.stderr == f"error[NOT_RUNNING]: nothing runs on {root}\n  hint: Start it with: tunesmith up\n"


class TestDoctor:
    @pytest.fixture
    def findings(self, monkeypatch):
        return lambda *checks: monkeypatch.setattr(doctor, "examine", lambda directory: list(checks))

    def test_when_all_is_well_no_fix_is_offered(self, run, findings):
        findings(Check("python", True, "3.12", "Install it."), Check("disk", True, "9 GB free"))
        result = run("doctor")
        assert result.exit_code == 0
        assert result.stdout.splitlines() == [f"✓ {'python':<22} 3.12", f"✓ {'disk':<22} 9 GB free"]

    def test_every_failed_check_has_its_fix_below_and_the_exit_code_is_1(self, run, findings):
        findings(Check("a", False, "missing", "Install a."), Check("b", True, "fine"), Check("c", False, "full", "Empty c."))
        result = run("doctor")
        assert result.exit_code == 1
        assert [line.strip() for line in result.stdout.splitlines() if "fix:" in line] == ["fix: Install a.", "fix: Empty c."]

    @pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 1)])
    def test_as_json_it_is_a_verdict_with_all_checks(self, run, findings, ok, code):
        findings(Check("a", ok, "found", "fix"), Check("b", True, "fine"))
        result = run("doctor", "--json")
        assert result.exit_code == code
        assert json.loads(result.stdout) == {
            "ok": ok,
            "checks": [
                {"name": "a", "ok": ok, "found": "found", "fix": "fix"},
                {"name": "b", "ok": True, "found": "fine", "fix": ""},
            ],
        }


@pytest.mark.parametrize("command", ["up", "down", "status", "doctor"])
def test_a_problem_below_is_shown_with_its_hint_and_never_as_a_traceback(run, monkeypatch, command):
    def fail(*_, **__):
        raise LocalError("STATE_UNREADABLE", "stack.json cannot be read", "Remove it.")

    for place in ("run", "stop", "inspect", "examine"):
        for module in (stack, daemon, status, doctor):
            if hasattr(module, place):
                monkeypatch.setattr(module, place, fail)
    result = run(command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error[STATE_UNREADABLE]: stack.json cannot be read\n  hint: Remove it.\n"
