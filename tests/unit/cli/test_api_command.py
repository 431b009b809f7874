"""`tunesmith api`: any method by its name, JSON in and out, and what is wrong said before anything is sent."""

import json

import pytest
from typer.testing import CliRunner

from tunesmith.any_rpc import find, methods
from tunesmith.cli.app import app
from tunesmith.errors import InvalidArgument, NotFound
from tunesmith.v1.base_model_pb2 import BaseModel
from tunesmith.v1.task_manager_service_pb2 import GetTaskRequest


@pytest.fixture
def run(platform):
    return lambda *arguments, **options: CliRunner().invoke(app, ["api", *map(str, arguments)], **options)


@pytest.mark.parametrize(
    "name",
    [
        "GetBaseModel",
        "getbasemodel",
        "ModelService.GetBaseModel",
        "tunesmith.v1.ModelService/GetBaseModel",
        "/tunesmith.v1.ModelService/GetBaseModel",
    ],
)
def test_a_method_is_found_by_every_form_of_its_name(name: str) -> None:
    assert find(name).name == "ModelService.GetBaseModel"


def test_every_method_of_the_contract_is_there_once() -> None:
    names = [rpc.name for rpc in methods()]
    assert len(names) == len(set(names))
    assert {"TaskManagerService.WatchTask", "TrainerService.StartRun", "InferenceService.StreamChat"} <= set(names)
    short = [rpc.method.name for rpc in methods()]
    assert len(short) == len(set(short)), "a bare name is never ambiguous"


@pytest.mark.parametrize(
    ("name", "served_by"),
    [
        ("CreateTask", "task_manager"),
        ("Chat", "inference"),
        ("StartRun", "trainer"),
        ("GetDataset", "storage"),
        ("GetArtifact", "storage"),
        ("ListModels", "storage"),
    ],
)
def test_who_serves_it(name: str, served_by: str) -> None:
    assert find(name).served_by == served_by


def test_a_wrong_name_is_refused_with_those_that_come_near() -> None:
    with pytest.raises(NotFound) as caught:
        find("GetTsk")
    assert caught.value.reason == "METHOD_NOT_FOUND"
    assert "TaskManagerService.GetTask" in caught.value.hint
    with pytest.raises(NotFound) as caught:
        find("zzzzzzzz")
    assert "lists them all" in caught.value.hint


def test_a_request_is_read_by_both_spellings_of_a_field() -> None:
    rpc = find("GetTask")
    assert rpc.request({"name": "tasks/1"}) == GetTaskRequest(name="tasks/1")
    assert find("ListTasks").request({"pageSize": 3}) == find("ListTasks").request({"page_size": 3})


@pytest.mark.parametrize("document", [{"nam": "x"}, {"name": 3}, [], "x", None])
def test_what_is_no_request_is_refused_with_the_messages_name(document: object) -> None:
    with pytest.raises(InvalidArgument, match="GetTaskRequest") as caught:
        find("GetTask").request(document)
    assert caught.value.reason == "INVALID_FIELD"


def test_one_call_prints_one_object(run, platform):
    platform.models.stored["baseModels/tiny"] = BaseModel(name="baseModels/tiny", context_length=128)
    result = run("GetBaseModel", "-d", '{"name": "baseModels/tiny"}')
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"name": "baseModels/tiny", "context_length": "128"}


def test_the_request_comes_from_a_file_or_from_standard_input(run, platform, tmp_path):
    platform.models.stored["baseModels/tiny"] = BaseModel(name="baseModels/tiny")
    path = tmp_path / "request.json"
    path.write_text('{"name": "baseModels/tiny"}')
    for options in ({}, {"input": path.read_text()}):
        result = run("GetBaseModel", "--data", "-" if options else f"@{path}", **options)
        assert json.loads(result.stdout)["name"] == "baseModels/tiny"


def test_an_answering_stream_is_one_object_a_line(run, platform):
    request = {"model": "tiny", "messages": [{"role": "user", "content": "you"}]}
    lines = run("StreamChat", "-d", json.dumps(request)).stdout.splitlines()
    assert "".join(json.loads(line).get("delta", "") for line in lines) == "echo you"


def test_an_asking_stream_is_an_array_of_requests(run, platform):
    requests = [{"header": {"name": "baseModels/tiny"}}]
    result = run("RegisterBaseModel", "-d", json.dumps(requests))
    assert json.loads(result.stdout)["name"] == "baseModels/tiny"


def test_without_a_method_all_are_listed(run):
    table = run().stdout
    assert "TaskManagerService.CreateTask" in table
    lines = [json.loads(line) for line in run("--json").stdout.splitlines()]
    watch = next(line for line in lines if line["method"] == "TaskManagerService.WatchTask")
    assert watch == {"method": "TaskManagerService.WatchTask", "served_by": "task_manager", "streams": "answers stream"}


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (("GetTsk",), 1, "METHOD_NOT_FOUND"),
        (("GetTask", "-d", "{"), 2, "is not JSON"),
        (("GetTask", "-d", '{"nam": 1}'), 2, "INVALID_FIELD"),
        (("GetBaseModel", "-d", '{"name": "baseModels/none"}'), 1, "BASE_MODEL_NOT_FOUND"),
        (("GetTask", "-d", "@/nowhere/request.json"), 1, "FILE_UNUSABLE"),
    ],
)
def test_errors_are_told_as_everywhere(run, arguments, exit_code: int, said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == exit_code
    assert said in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_names_the_program(shell: str) -> None:
    result = CliRunner().invoke(app, ["completion", shell])
    assert result.exit_code == 0
    assert "_TUNESMITH_COMPLETE" in result.stdout
    assert CliRunner().invoke(app, ["completion", "tcsh"]).exit_code == 2
