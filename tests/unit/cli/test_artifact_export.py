"""`artifact export` with a format: what is there is taken, what is not is made by a task that the command waits for."""

import json

import pytest
from fake_platform import a_run
from typer.testing import CliRunner

from tunesmith.cli.app import app
from tunesmith.v1.artifact_pb2 import Artifact
from tunesmith.v1.export_pb2 import Export
from tunesmith.v1.task_error_pb2 import TaskError
from tunesmith.v1.task_pb2 import Task


@pytest.fixture
def run(platform):
    return lambda *arguments: CliRunner().invoke(app, ["artifact", "export", *map(str, arguments)])


@pytest.fixture
def adapter(platform):
    return platform.artifacts.add({"adapter_model.safetensors": b"1"}, kind=Artifact.ADAPTER)


def made_of(platform, parent, kind=Artifact.MERGED, path="model.safetensors"):
    made = platform.artifacts.add({path: b"12"}, kind=kind)
    made.manifest.parent = parent.name
    return made


@pytest.fixture
def succeeding(platform, adapter):
    """Every task that is created has made its artifact already."""

    def succeed(task):
        kind = Artifact.Kind.Value(Export.Format.Name(task.spec.export.format))
        task.state, task.artifact = Task.SUCCEEDED, made_of(platform, adapter, kind).name

    platform.tasks.on_create = succeed


def test_a_form_that_is_not_there_is_made_and_then_exported(run, platform, adapter, succeeding):
    result = run(adapter.name, "mine", "--format", "merged", "--alias", "champion")
    assert (result.exit_code, result.stdout) == (0, "models/mine/versions/1\n"), result.stderr
    (created,) = platform.tasks.created
    assert created.task.spec.export == Export(artifact=adapter.name, format=Export.MERGED)
    assert created.task.display_name.startswith("merged of ")
    version = platform.artifacts.exported["models/mine/versions/1"]
    assert (version.format, version.manifest.parent) == (3, adapter.name)
    assert "all is well" in result.stderr, "the task's own words tell how far it is"


def test_the_type_of_a_gguf_file_is_the_tasks(run, platform, adapter, succeeding):
    assert run(adapter.name, "mine", "--format", "gguf", "--gguf-type", "q8_0").exit_code == 0
    assert platform.tasks.created[0].task.spec.export.gguf_type == Export.Q8_0


def test_what_an_earlier_task_has_made_is_taken(run, platform, adapter):
    made_of(platform, platform.artifacts.add({"x": b"1"}, kind=Artifact.ADAPTER))
    made = made_of(platform, adapter)
    result = run(adapter.name, "mine", "--format", "merged", "--json")
    assert json.loads(result.stdout)["artifact"] == made.name
    assert platform.tasks.created == []


@pytest.mark.parametrize(("asked", "tasks"), [([], 0), (["--gguf-type", "f16"], 0), (["--gguf-type", "q8_0"], 1)])
def test_a_gguf_file_of_another_type_is_not_taken(run, platform, adapter, succeeding, asked, tasks):
    made_of(platform, adapter, Artifact.GGUF, "model-F16.gguf")
    assert run(adapter.name, "mine", "--format", "gguf", *asked).exit_code == 0
    assert len(platform.tasks.created) == tasks


def test_what_is_merged_already_is_exported_as_it_is(run, platform, adapter):
    made = made_of(platform, adapter)
    assert run(made.name, "mine", "--format", "merged").exit_code == 0
    assert platform.artifacts.exported["models/mine/versions/1"].artifact == made.name
    assert platform.tasks.created == []


def test_a_task_that_fails_ends_the_command_with_its_reason(run, platform, adapter):
    error = TaskError(reason="EXPORT_UNSUPPORTED", message="no name for it", hint="Export it merged.")

    def fail(task):
        platform.tasks.events[task.name] = a_run(ending=Task.FAILED, error=error)
        task.state = Task.FAILED
        task.error.CopyFrom(error)

    platform.tasks.on_create = fail
    result = run(adapter.name, "mine", "--format", "gguf")
    assert (result.exit_code, result.stdout) == (3, "")
    for text in ("EXPORT_UNSUPPORTED", "no name for it", "Export it merged."):
        assert text in result.stderr
    assert not platform.artifacts.exported


def test_a_task_that_is_cancelled_ends_it_too(run, platform, adapter):
    def cancel(task):
        platform.tasks.events[task.name] = a_run(ending=Task.CANCELLED)
        task.state = Task.CANCELLED

    platform.tasks.on_create = cancel
    result = run(adapter.name, "mine", "--format", "merged")
    assert result.exit_code == 3
    assert "was cancelled" in result.stderr


def test_a_type_without_gguf_is_a_mistake_in_the_call(run, platform, adapter):
    result = run(adapter.name, "mine", "--format", "merged", "--gguf-type", "f16")
    assert result.exit_code == 2
    assert platform.tasks.created == []


def test_without_a_format_nothing_is_made(run, platform, adapter):
    assert run(adapter.name, "mine").exit_code == 0
    assert platform.tasks.created == []


@pytest.fixture
def task(platform):
    return lambda *arguments: CliRunner().invoke(app, ["task", *map(str, arguments)])


@pytest.fixture
def export_file(tmp_path, adapter):
    path = tmp_path / "task.json"
    path.write_text(json.dumps({"display_name": "n", "spec": {"export": {"artifact": adapter.name, "format": "GGUF"}}}))
    return path


def test_a_file_of_another_kind_creates_a_task_of_that_kind(platform, task, export_file):
    assert task("create", "-f", export_file, "--priority", 3).exit_code == 0
    (created,) = platform.tasks.created
    assert created.task.spec.WhichOneof("kind") == "export"
    assert (created.task.display_name, created.task.priority) == ("n", 3)


@pytest.mark.parametrize("option", ["--data d", "--model tiny", "--set seed=1", "--validation-split 0.1", "--from artifacts/1"])
def test_what_belongs_to_fine_tuning_is_not_given_to_another_kind(platform, task, export_file, option):
    result = task("create", "-f", export_file, *option.split())
    assert result.exit_code == 2
    assert "export" in result.stderr
    assert platform.tasks.created == []


def test_show_and_watch_speak_of_what_the_task_does(platform, task):
    spec = {"export": Export(artifact="artifacts/1", format=Export.GGUF)}
    ended = platform.tasks.add(Task.SUCCEEDED, events=a_run(), spec=spec, artifact="artifacts/2")
    shown = task("show", ended.name).stdout
    for text in ("kind        export", "exports     artifacts/1", "format      gguf"):
        assert text.split() in [line.split() for line in shown.splitlines()]
    assert "method" not in shown
    told = task("watch", ended.name).stderr
    assert "tunesmith artifact show" in told
    assert "model chat" not in told
    assert task("ls").stdout.splitlines()[1].split()[2] == "export"
