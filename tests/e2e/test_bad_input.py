"""What is wrong is refused by field, reason and hint, and nothing is queued."""

import json
import pathlib
import uuid

import grpc
import pytest

from tests.e2e.conftest import TINY
from tests.e2e.local_stack import LocalStack
from tunesmith.v1 import task_manager_service_pb2, task_manager_service_pb2_grpc, task_pb2, task_spec_pb2

pytestmark = pytest.mark.e2e

SPEC = "task.spec.fine_tuning"
NUMBERS = f"{SPEC}.hyperparameters"


def refusal(stack: LocalStack, *arguments: str) -> dict:
    done = stack.run(*arguments, "--json", check=False)
    assert done.returncode == 1, done
    return json.loads(done.stderr.strip().splitlines()[-1])["error"]


@pytest.mark.parametrize(
    ("option", "field"),
    [
        (("--set", "learning_rate=0"), f"{NUMBERS}.learning_rate"),
        (("--set", "learning_rate=nan"), f"{NUMBERS}.learning_rate"),
        (("--set", "learning_rate=inf"), f"{NUMBERS}.learning_rate"),
        (("--set", "num_train_epochs=0"), f"{NUMBERS}.num_train_epochs"),
        (("--set", "lora.rank=0"), f"{NUMBERS}.lora.rank"),
        (("--set", "lr_scheduler_type=zigzag"), f"{NUMBERS}.lr_scheduler_type"),
        (("--name", "x" * 129), "task.display_name"),
        (("--name", ""), "task.display_name"),
    ],
)
def test_a_bad_field_is_named_and_nothing_is_queued(stack: LocalStack, dataset: str, option: tuple[str, str], field: str) -> None:
    before = len(stack.json_lines("task", "ls"))
    options = {"--name": "bad", "--model": TINY, "--data": dataset}
    arguments = [part for key, value in options.items() if key != option[0] for part in (key, value)]
    error = refusal(stack, "task", "create", *arguments, *option)
    assert error["grpc_code"] == "INVALID_ARGUMENT"
    assert field in [violation["field"] for violation in error["violations"]]
    assert error["hint"]
    assert len(stack.json_lines("task", "ls")) == before


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"dataset": f"tasks/{uuid.uuid4()}"}, f"{SPEC}.dataset"),
        ({"validation_dataset": f"artifacts/{uuid.uuid4()}"}, f"{SPEC}.validation_dataset"),
        ({"base_model": f"datasets/{uuid.uuid4()}"}, f"{SPEC}.base_model"),
    ],
)
def test_an_id_of_another_kind_is_refused_by_the_service_itself(stack: LocalStack, dataset: str, spec: dict, field: str) -> None:
    fine_tuning = task_spec_pb2.FineTuning(**{"base_model": TINY, "dataset": dataset} | spec)
    task = task_pb2.Task(display_name="bad", spec=task_spec_pb2.TaskSpec(fine_tuning=fine_tuning))
    with grpc.insecure_channel(stack.state()["addresses"]["task_manager"]) as channel, pytest.raises(grpc.RpcError) as caught:
        stub = task_manager_service_pb2_grpc.TaskManagerServiceStub(channel)
        stub.CreateTask(task_manager_service_pb2.CreateTaskRequest(task=task), timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in caught.value.details()


@pytest.mark.parametrize("option", [("--data", f"tasks/{uuid.uuid4()}"), ("--model", f"datasets/{uuid.uuid4()}")])
def test_the_command_line_refuses_an_id_of_another_kind_as_wrong_usage(
    stack: LocalStack, dataset: str, option: tuple[str, str]
) -> None:
    options = {"--name": "bad", "--model": TINY, "--data": dataset} | dict([option])
    done = stack.run("task", "create", *(part for pair in options.items() for part in pair), check=False)
    assert done.returncode == 2
    assert option[1] in done.stderr
    assert "hint" in done.stderr


def test_an_unknown_model_is_not_found(stack: LocalStack, dataset: str) -> None:
    error = refusal(stack, "task", "create", "--name", "bad", "--model", "gpt-9", "--data", dataset)
    assert (error["grpc_code"], error["reason"]) == ("NOT_FOUND", "BASE_MODEL_NOT_FOUND")
    assert "gpt-9" in error["message"]
    assert error["hint"]


def test_an_unknown_dataset_is_not_found(stack: LocalStack) -> None:
    error = refusal(stack, "task", "create", "--name", "bad", "--model", TINY, "--data", f"datasets/{uuid.uuid4()}")
    assert (error["grpc_code"], error["reason"]) == ("NOT_FOUND", "DATASET_NOT_FOUND")


@pytest.mark.parametrize(
    ("text", "reasons", "place"),
    [
        ("", {"DATASET_EMPTY"}, ""),
        ("\n\n", {"DATASET_EMPTY"}, ""),
        ('{"prompt": "a", "completion": "b"}\n', {"DATASET_INVALID", "DATASET_MESSAGES_MISSING"}, "line 1"),
        ('{"messages": [{"role": "user", "content": "x"}]}\n', {"DATASET_INVALID", "DATASET_NO_ASSISTANT"}, "line 1"),
        ("hello\n", {"DATASET_INVALID", "DATASET_NOT_JSON"}, "line 1"),
    ],
)
def test_a_file_not_in_the_format_is_refused_at_its_line(
    stack: LocalStack, tmp_path: pathlib.Path, text: str, reasons: set[str], place: str
) -> None:
    before = len(stack.json_lines("data", "ls"))
    (tmp_path / "bad.jsonl").write_text(text)
    error = refusal(stack, "data", "upload", str(tmp_path / "bad.jsonl"))
    assert error["grpc_code"] == "INVALID_ARGUMENT"
    assert error["reason"] in reasons
    assert place in json.dumps(error["violations"])
    assert error["hint"]
    assert len(stack.json_lines("data", "ls")) == before


def test_a_task_that_does_not_exist_is_not_found(stack: LocalStack) -> None:
    assert refusal(stack, "task", "show", str(uuid.uuid4()))["reason"] == "TASK_NOT_FOUND"


def test_a_limit_that_leaves_nothing_to_learn_is_refused(stack: LocalStack, dataset: str) -> None:
    error = refusal(stack, "task", "create", "--name", "short", "--model", TINY, "--data", dataset, "--set", "max_seq_length=8")
    assert error["reason"] == "INVALID_FIELD"
    (violation,) = error["violations"]
    assert violation["field"] == "task.spec.fine_tuning.dataset"
    assert "max_seq_length" in violation["description"]
