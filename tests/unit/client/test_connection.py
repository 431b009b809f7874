"""Where the SDK looks for services."""

import json
import time

import pytest

from tunesmith.connection import _SERVICE_CONFIG, resolve_address
from tunesmith.errors import InvalidArgument
from tunesmith.local.state import DataDirectory, ProcessId, StackState
from tunesmith.names import bare_id, model_name, resource_name
from tunesmith.v1 import (
    artifact_service_pb2,
    dataset_service_pb2,
    inference_service_pb2,
    model_service_pb2,
    task_manager_service_pb2,
)


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_DATA_DIR", str(tmp_path))
    for service in ("TASK_MANAGER", "STORAGE", "INFERENCE"):
        monkeypatch.delenv(f"TUNESMITH_{service}_ADDRESS", raising=False)
    return DataDirectory(tmp_path)


def test_without_anything_the_default_port_is_used(directory):
    assert resolve_address("task_manager") == "127.0.0.1:50051"


def test_a_running_stack_is_found(directory):
    directory.write_stack(StackState("1", ProcessId(1, 1.0), time.time(), {"storage": "127.0.0.1:6000"}))
    assert resolve_address("storage") == "127.0.0.1:6000"
    assert resolve_address("inference") == "127.0.0.1:50054"


def test_the_environment_goes_before_the_stack_and_an_argument_before_both(directory, monkeypatch):
    directory.write_stack(StackState("1", ProcessId(1, 1.0), time.time(), {"storage": "127.0.0.1:6000"}))
    monkeypatch.setenv("TUNESMITH_STORAGE_ADDRESS", "there:1")
    assert resolve_address("storage") == "there:1"
    assert resolve_address("storage", "elsewhere:2") == "elsewhere:2"


def test_a_broken_state_file_does_not_stop_a_client(directory):
    (directory.root / "stack.json").write_text("{")
    assert resolve_address("storage") == "127.0.0.1:50053"


def test_every_method_that_is_repeated_exists():
    modules = (task_manager_service_pb2, dataset_service_pb2, artifact_service_pb2, model_service_pb2, inference_service_pb2)
    known = {
        (f"tunesmith.v1.{name}", method)
        for module in modules
        for name, service in module.DESCRIPTOR.services_by_name.items()
        for method in service.methods_by_name
    }
    for entry in json.loads(_SERVICE_CONFIG)["methodConfig"][0]["name"]:
        assert (entry["service"], entry["method"]) in known


@pytest.mark.parametrize(("given", "name"), [("1", "tasks/1"), ("tasks/1", "tasks/1"), (" 1 ", "tasks/1")])
def test_bare_ids_become_names(given, name):
    assert resource_name("tasks", given) == name


@pytest.mark.parametrize("given", ["", "  ", "datasets/1", "tasks/", "/1"])
def test_what_is_no_name_is_refused(given):
    with pytest.raises(InvalidArgument):
        resource_name("tasks", given)


def test_models_have_names_of_several_collections():
    assert model_name("tiny") == "baseModels/tiny"
    assert model_name("artifacts/1") == "artifacts/1"
    assert bare_id("artifacts/1") == "1"
