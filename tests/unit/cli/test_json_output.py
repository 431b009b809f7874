"""What programs read: every command's --json is JSON and nothing else on stdout, with the contract's own field names."""

import json

import pytest
from fake_platform import a_run
from typer.testing import CliRunner

from tunesmith.cli.app import app
from tunesmith.v1.artifact_pb2 import Artifact
from tunesmith.v1.base_model_pb2 import BaseModel
from tunesmith.v1.task_error_pb2 import TaskError
from tunesmith.v1.task_manager_service_pb2 import Checkpoint
from tunesmith.v1.task_pb2 import Task


@pytest.fixture
def run(platform):
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def saving(platform):
    """A running task with two checkpoints."""
    task = platform.tasks.add(Task.RUNNING)
    platform.tasks.checkpoints[task.name] = [Checkpoint(name=f"{task.name}@step-{step}", step=step) for step in (2, 1)]
    return task.name


@pytest.fixture
def names(platform, tmp_path):
    """One of everything; the placeholders of the commands below."""
    train = tmp_path / "train.jsonl"
    train.write_text('{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}\n')
    csv = tmp_path / "train.csv"
    csv.write_text("question,answer\nx,y\n")
    platform.models.stored["baseModels/tiny"] = BaseModel(name="baseModels/tiny", display_name="Tiny", context_length=128)
    stored = CliRunner().invoke(app, ["data", "upload", str(train), "--json"])
    return {
        "FILE": str(train),
        "CSV": str(csv),
        "OUT": str(tmp_path / "out"),
        "TASK": platform.tasks.add(Task.RUNNING, events=a_run()).name,
        "PAUSED": platform.tasks.add(Task.PAUSED).name,
        "FAILED": platform.tasks.add(Task.FAILED).name,
        "SAVING": saving(platform),
        "ARTIFACT": platform.artifacts.add({"adapter.bin": b"1"}).name,
        "DATASET": json.loads(stored.stdout)["name"],
    }


ONE_OBJECT = {
    "version": {"version"},
    "data upload FILE": {"name", "display_name", "size_bytes", "sha256", "statistics", "create_time"},
    "data check FILE": {"valid", "statistics", "format", "size_bytes", "warnings"},
    "data convert CSV OUT": {"path", "from", "file_kind", "to", "converted_count", "failure_count", "failures"},
    "data show DATASET --model tiny --against d": {"tokens", "overlap"},
    "data download DATASET OUT": {"path", "size_bytes"},
    "data show DATASET": {"name", "display_name", "size_bytes", "sha256", "statistics", "create_time"},
    "task create --data d": {"name", "display_name", "spec", "state", "effective_hyperparameters"},
    "task create --data d --dry-run": {
        "effective_hyperparameters",
        "total_steps",
        "example_count",
        "warnings",
        "token_count",
        "trainable_token_count",
        "estimated_duration",
        "estimate_basis",
        "estimated_peak_memory_bytes",
        "serving_problem",
    },
    "task show TASK": {"name", "display_name", "spec", "state", "create_time"},
    "task cancel TASK --reason enough": {"name", "display_name", "spec", "state", "state_reason", "create_time"},
    "task pause TASK --reason enough": {"name", "display_name", "spec", "state", "state_reason", "create_time"},
    "task resume PAUSED": {"name", "display_name", "spec", "state", "create_time"},
    "task retry FAILED --set learning_rate=1e-5": {"name", "display_name", "spec", "state", "create_time"},
    "task clone TASK --name copy --set seed=2": {"name", "display_name", "spec", "state", "effective_hyperparameters"},
    "task save SAVING --label good": {"step", "name", "artifact", "labels"},
    "model show tiny": {"name", "display_name", "context_length", "tunings", "max_seq_length"},
    "model chat tiny -m hello": {"model", "message", "finish_reason"},
    "artifact show ARTIFACT": {"name", "kind", "state", "manifest", "size_bytes", "create_time"},
    "artifact download ARTIFACT OUT": {"directory", "files"},
}
ONE_OBJECT_A_LINE = {
    "data ls": ("name", 1),
    "data rm DATASET --yes": ("name", 1),
    "data preview DATASET --rows 2": ("renderings", 2),
    "task ls": ("name", 2),
    "model ls": ("name", 1),
    "artifact ls": ("manifest", 1),
    "task checkpoints SAVING": ("name", 2),
    "task logs TASK": ("entry", 2),
    "task logs TASK -f": ("entry", 2),
    "task metrics TASK": ("values", 3),
    "task metrics TASK -f": ("values", 3),
    "task watch TASK": ("sequence", 9),
    "task create --data d --watch": ("name", 1),
}


def arguments(command: str, names: dict[str, str]) -> list[str]:
    return [names.get(word, word) for word in command.split()]


@pytest.mark.parametrize("command", ONE_OBJECT)
def test_one_thing_is_one_object_with_these_fields(run, names, command):
    result = run(*arguments(command, names), "--json")
    assert result.exit_code == 0, result.stderr
    assert set(json.loads(result.stdout)) == ONE_OBJECT[command]


@pytest.mark.parametrize("command", ONE_OBJECT_A_LINE)
def test_several_things_are_one_object_a_line(run, names, command):
    key, least = ONE_OBJECT_A_LINE[command]
    result = run(*arguments(command, names), "--json")
    assert result.exit_code == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert len([entry for entry in found if key in entry]) >= least
    assert all(isinstance(entry, dict) for entry in found)


@pytest.mark.parametrize("command", ["data ls", "task ls", "model ls", "artifact ls"])
def test_an_empty_list_is_no_line_and_no_talk(run, command):
    result = run(*command.split(), "--json")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "command",
    ["data show x", "task show x", "task cancel x", "task watch x", "artifact show x", "artifact download x", "model show x"],
)
def test_what_does_not_exist_is_one_error_object_on_stderr(run, command):
    result = run(*command.split(), "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    error = json.loads(result.stderr)["error"]
    assert set(error) == {"reason", "message", "hint", "class", "grpc_code", "violations"}
    assert error["grpc_code"] == "NOT_FOUND"


def test_the_position_of_the_option_does_not_matter_to_the_error(run):
    assert json.loads(run("task", "show", "--json", "x").stderr) == json.loads(run("task", "show", "x", "--json").stderr)


def test_violations_of_a_refused_task_are_objects(run, tmp_path):
    path = tmp_path / "task.json"
    path.write_text('{"spec": {"fine_tuning": {"base_model": "tiny", "dataset": "d"}}}')
    error = json.loads(run("task", "create", "-f", path, "--json").stderr)["error"]
    assert error["violations"] == [{"field": "task.display_name", "description": "must have 1 to 128 characters", "reason": ""}]


def test_what_the_command_line_itself_refuses_is_an_error_object_too(run):
    result = run("task", "ls", "--state", "asleep", "--json")
    error = json.loads(result.stderr)["error"]
    assert (result.exit_code, error["reason"], error["grpc_code"]) == (2, "STATE_UNKNOWN", "")


def test_a_problem_of_the_local_stack_is_a_smaller_error_object(run):
    result = run("status", "--json")
    error = json.loads(result.stderr)["error"]
    assert (result.exit_code, set(error), error["reason"]) == (5, {"reason", "message", "hint"}, "NOT_RUNNING")


def test_letters_of_every_language_stay_themselves(run, platform):
    task = platform.tasks.add(Task.FAILED, error=TaskError(message="größer als 漢字"))
    assert "größer als 漢字" in run("task", "show", task.name, "--json").stdout
    assert "größer" in run("task", "ls", "--json").stdout


def test_large_whole_numbers_are_text_as_proto_json_has_them_and_states_are_names(run, platform):
    task = platform.tasks.add(Task.RUNNING)
    task.progress.step = 2**53 + 1
    content = json.loads(run("task", "show", task.name, "--json").stdout)
    assert (content["progress"]["step"], content["state"]) == (str(2**53 + 1), "RUNNING")


def test_points_can_be_of_some_metrics_and_steps_without_any_are_left_out(run, platform):
    task = platform.tasks.add(events=a_run(steps=2))
    points = [json.loads(line) for line in run("task", "metrics", task.name, "--metric", "loss", "--json").stdout.splitlines()]
    assert [(point["step"], point["values"], point["attempt"]) for point in points] == [
        ("1", {"loss": 3.0}, 1),
        ("2", {"loss": 1.5}, 1),
    ]
    assert run("task", "metrics", task.name, "--metric", "nothing", "--json").stdout == ""


def test_a_download_says_where_it_put_what(run, platform, tmp_path):
    artifact = platform.artifacts.add({"b": b"1", "a/c": b"2"})
    content = json.loads(run("artifact", "download", artifact.name, tmp_path / "out", "--json").stdout)
    assert content == {
        "directory": str(tmp_path / "out"),
        "files": [str(tmp_path / "out" / "b"), str(tmp_path / "out" / "a" / "c")],
    }


def test_a_check_that_fails_is_a_whole_report_and_exit_code_1(run, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "x"}, {"role": "assistent", "content": "y"}]}\n')
    result = run("data", "check", path, "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report.get("valid", False), report["violation_count"]) == (1, False, "1")
    violation = report["violations"][0]
    assert (violation["line"], violation["path"]) == ("1", "messages[1].role")
    assert (violation["reason"], bool(violation["hint"])) == ("DATASET_ROLE_UNKNOWN", True)


@pytest.mark.parametrize("state", [Artifact.UPLOADING, Artifact.AVAILABLE, Artifact.EXPIRED, Artifact.DELETED])
def test_an_artifact_has_its_state_by_name(run, platform, state):
    artifact = platform.artifacts.add({"a": b"1"})
    artifact.state = state
    assert json.loads(run("artifact", "show", artifact.name, "--json").stdout)["state"] == Artifact.State.Name(state)
