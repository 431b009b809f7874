"""`tunesmith runner`: who takes tasks, what is free there, and why one does not."""

import json

import pytest
from fake_platform import NOW
from google.protobuf.timestamp_pb2 import Timestamp
from typer.testing import CliRunner

from tunesmith import Client
from tunesmith.cli.app import app
from tunesmith.v1.task_manager_service_pb2 import Runner

READY = Runner(
    name="runners/127.0.0.1:7003",
    address="127.0.0.1:7003",
    state=Runner.READY,
    version="0.1.0",
    labels={"zone": "a", "disk": "fast"},
    total_processes=4,
    free_processes=1,
    device="cpu",
    total_memory_bytes=25 * 10**9,
    free_memory_bytes=9 * 10**9,
    tasks=["tasks/1", "tasks/2"],
    last_heard_time=Timestamp(seconds=NOW.seconds),
)
SILENT = Runner(name="runners/b:1", address="b:1", state=Runner.SILENT, state_reason="it has not answered since yesterday")


@pytest.fixture
def run(platform):
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_ls_has_a_line_a_runner_and_says_why_one_takes_nothing(run, platform):
    platform.tasks.runners = [READY, SILENT]
    result = run("runner", "ls")
    _, ready, silent = result.stdout.splitlines()
    assert ready.startswith("127.0.0.1:7003  ready")
    for text in ("1 of 4", "9.0 GB of 25.0 GB", "cpu", "0.1.0", "2027-01-15", "disk=fast,zone=a"):
        assert text in ready
    assert silent.split() == ["b:1", "silent", "0"], "what is not known is left empty"
    assert "b:1: it has not answered since yesterday" in result.stderr


def test_ls_for_programs_is_a_line_of_json_a_runner(run, platform):
    platform.tasks.runners = [READY, SILENT]
    lines = [json.loads(line) for line in run("runner", "ls", "--json").stdout.splitlines()]
    assert [line["state"] for line in lines] == ["READY", "SILENT"]
    assert lines[0]["labels"] == {"zone": "a", "disk": "fast"}


def test_ls_without_any_runner_says_so(run):
    assert "knows no runner" in run("runner", "ls").stderr


def test_a_state_of_a_newer_server_is_shown_as_its_number(run, platform):
    platform.tasks.runners = [Runner(name="runners/c:1", address="c:1", state=99, total_memory_bytes=10**9)]  # type: ignore[arg-type]
    line = run("runner", "ls").stdout.splitlines()[1]
    assert line.split() == ["c:1", "99", "?", "of", "1.0", "GB", "0"]


def test_the_sdk_lists_them(platform):
    platform.tasks.runners = [READY, SILENT]
    with Client() as client:
        assert [runner.address for runner in client.list_runners()] == ["127.0.0.1:7003", "b:1"]


def test_labels_reach_the_task_and_are_shown(run, platform):
    run("task", "create", "--data", "d", "--runner-label", "zone=a", "--runner-label", "disk=fast")
    created = platform.tasks.created[-1].task
    assert dict(created.spec.runner_labels) == {"zone": "a", "disk": "fast"}
    task = platform.tasks.add()
    task.spec.runner_labels["zone"] = "a"
    assert "only on" in run("task", "show", task.name).stdout


def test_a_label_without_a_value_is_a_usage_error(run):
    result = run("task", "create", "--data", "d", "--runner-label", "zone")
    assert result.exit_code == 2
    assert "--runner-label" in result.output


def test_the_labels_of_the_task_itself_are_given_with_it(run, platform):
    run("task", "create", "--data", "d", "--label", "project=lab", "--label", "team=a")
    created = platform.tasks.created[-1].task
    assert (dict(created.labels), dict(created.spec.runner_labels)) == ({"project": "lab", "team": "a"}, {})
