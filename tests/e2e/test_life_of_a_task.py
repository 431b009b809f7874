"""The main path, through every service and process, as a user of the command line and the SDK sees it."""

import datetime
import hashlib
import json
import pathlib

import pytest

from tests.e2e.conftest import TINY
from tests.e2e.local_stack import LocalStack, eventually, local_stack
from tunesmith import Client
from tunesmith.v1 import task_pb2

pytestmark = pytest.mark.e2e

FAST = ("--set", "max_steps=6", "--set", "global_batch_size=8", "--set", "lora.rank=4", "--set", "learning_rate=0.01")
ENDLESS = ("--set", "max_steps=100000", "--set", "global_batch_size=8", "--set", "lora.rank=4")


@pytest.fixture(scope="module")
def client(stack: LocalStack, request: pytest.FixtureRequest) -> Client:
    monkeypatch = pytest.MonkeyPatch()
    request.addfinalizer(monkeypatch.undo)
    monkeypatch.setenv("TUNESMITH_DATA_DIR", str(stack.directory))
    return Client()


def create(stack: LocalStack, dataset: str, *options: str, name: str = "a task") -> dict:
    return stack.json("task", "create", "--name", name, "--model", TINY, "--data", dataset, *options)


def loaded(stack: LocalStack) -> dict[str, dict]:
    """What inference has in memory, by name."""
    return {model["model"]: model for model in stack.json("api", "ListLoadedModels").get("models", [])}


@pytest.fixture(scope="module")
def finished(stack: LocalStack, dataset: str) -> dict:
    task = create(stack, dataset, *FAST, "--description", "the main path", name="Main path")
    done = stack.run("task", "watch", task["name"], "--json")
    assert done.returncode == 0
    return {"task": stack.json("task", "show", task["name"]), "events": [json.loads(line) for line in done.stdout.splitlines()]}


def test_the_task_succeeds_with_everything_that_was_asked_for(finished: dict) -> None:
    task = finished["task"]
    assert task["state"] == "SUCCEEDED"
    assert (task["display_name"], task["description"]) == ("Main path", "the main path")
    assert task["effective_hyperparameters"]["lora"]["rank"] == 4
    assert task["effective_hyperparameters"]["learning_rate"] == 0.01
    assert task["effective_hyperparameters"]["seed"] == "42"
    assert task["attempt"] == 1
    assert int(task["progress"]["step"]) == int(task["progress"]["total_steps"]) == 6


def test_the_states_follow_each_other(finished: dict) -> None:
    changes = [event["state_change"]["to_state"] for event in finished["events"] if "state_change" in event]
    assert changes == ["QUEUED", "STARTING", "RUNNING", "SUCCEEDED"]


def test_events_are_numbered_without_gap(finished: dict) -> None:
    sequences = [int(event["sequence"]) for event in finished["events"]]
    assert sequences == list(range(1, len(sequences) + 1))


def test_every_step_measures_what_is_promised(finished: dict) -> None:
    points = [event["step_metrics"] for event in finished["events"] if "step_metrics" in event]
    assert [int(point["step"]) for point in points] == list(range(1, 7))
    for point in points:
        assert {"loss", "learning_rate", "grad_norm", "tokens", "tokens_per_second", "epoch"} <= set(point["values"])
    assert ["remaining" in point for point in points] == [False] + 5 * [True]


def test_the_loss_falls(finished: dict) -> None:
    losses = [event["step_metrics"]["values"]["loss"] for event in finished["events"] if "step_metrics" in event]
    assert losses[-1] < losses[0]


def test_the_runner_is_listed_and_a_label_that_it_does_not_have_is_waited_for(stack: LocalStack, dataset: str) -> None:
    runner = stack.json("runner", "ls")
    assert (runner["state"], runner["device"]) == ("READY", "cpu")
    assert 0 < int(runner["free_memory_bytes"]) <= int(runner["total_memory_bytes"])

    task = create(stack, dataset, *FAST, "--runner-label", "zone=nowhere")
    eventually(
        lambda: stack.task(task["name"]).state_reason == "no runner with zone=nowhere is there",
        what="the task does not say what it waits for",
    )
    assert stack.json("task", "cancel", task["name"])["state"] == "CANCELLED"


def test_a_run_whose_time_is_up_succeeds_early_and_says_so_with_its_samples(stack: LocalStack, dataset: str) -> None:
    limits = ("--set", "time_limit_seconds=1", "--set", "eval_steps=1", "--sample", "Where is my parcel?")
    task = create(stack, dataset, *ENDLESS, *limits)
    done = stack.run("task", "watch", task["name"], "--json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["sample_generated"]["prompt"] for event in events if "sample_generated" in event} == {"Where is my parcel?"}
    [anomaly] = [event["anomaly"] for event in events if "anomaly" in event]
    assert (anomaly["reason"], anomaly["rank"]) == ("TIME_LIMIT_REACHED", -1)
    shown = stack.json("task", "show", task["name"])
    assert "ended early (the time limit of 1 s was reached" in shown["state_reason"]
    assert int(shown["progress"]["step"]) < int(shown["progress"]["total_steps"])
    text = stack.run("task", "show", task["name"]).stdout
    assert "TIME_LIMIT_REACHED" in text
    assert ": Where is my parcel? -> " in text


def test_logs_of_the_rank_and_of_the_trainer_arrive(stack: LocalStack, finished: dict) -> None:
    lines = stack.json_lines("task", "logs", finished["task"]["name"])
    ranks = {line["entry"].get("rank", 0) for line in lines}
    assert {-1, 0} <= ranks
    assert all(line["entry"]["text"] for line in lines)


def test_the_artifact_expires_in_15_days_and_arrives_with_its_checksums(
    stack: LocalStack, finished: dict, tmp_path: pathlib.Path
) -> None:
    artifact = stack.json("artifact", "show", finished["task"]["artifact"])
    created, expires = (datetime.datetime.fromisoformat(artifact[key]) for key in ("create_time", "expire_time"))
    assert expires - created == datetime.timedelta(days=15)
    assert artifact["manifest"]["task"] == finished["task"]["name"]
    stack.run("artifact", "download", artifact["name"], str(tmp_path / "adapter"))
    for file in artifact["manifest"]["files"]:
        assert hashlib.sha256((tmp_path / "adapter" / file["path"]).read_bytes()).hexdigest() == file["sha256"]
    assert {"adapter_model.safetensors", "adapter_config.json"} <= {file["path"] for file in artifact["manifest"]["files"]}


def test_base_and_tuned_model_answer(stack: LocalStack, finished: dict) -> None:
    question = ("--message", "number 3", "--max-tokens", "8")
    for model in (TINY, finished["task"]["name"], finished["task"]["artifact"]):
        answer = stack.json("model", "chat", model, *question)
        assert answer["message"]["role"] == "assistant"
        assert int(answer["usage"]["prompt_tokens"]) > 0


def test_when_a_task_has_trained_its_base_model_is_loaded_though_nobody_has_asked_it(stack: LocalStack, dataset: str) -> None:
    base = f"baseModels/{TINY}"
    stack.json("api", "UnloadModel", "--data", json.dumps({"model": base}))
    assert base not in loaded(stack)
    # The trainer may have wished for it a moment ago, and wishes again later.
    task = create(stack, dataset, *ENDLESS)
    eventually(lambda: base in loaded(stack), 90, "nobody loads the base model")
    stack.run("task", "cancel", task["name"])
    eventually(lambda: stack.state_of(task["name"]) == "CANCELLED", 60, "cancelled")
    assert "last_use_time" not in loaded(stack)[base]


def test_a_reader_resumes_in_the_middle(client: Client, finished: dict) -> None:
    name, total = finished["task"]["name"], len(finished["events"])
    assert [event.sequence for event in client.watch_task(name, after_sequence=total - 3)] == [total - 2, total - 1, total]


def test_streams_and_history_agree(client: Client, finished: dict) -> None:
    name = finished["task"]["name"]
    streamed = {point.step: point.values["loss"] for point in client.stream_metrics(name) if "loss" in point.values}
    (series,) = [series for series in client.list_metrics(name).series if series.metric == "loss"]
    assert {sample.step: sample.value for sample in series.samples} == streamed


def test_the_same_request_id_creates_one_task(client: Client, dataset: str) -> None:
    request = {"name": "twice", "base_model": TINY, "dataset": dataset, "hyperparameters": {"max_steps": 1}}
    request_id = "0c3f9b52-7d0f-4a3c-9d0c-2f1f0a4b7f11"
    first, second = (client.create_task(**request, request_id=request_id) for _ in range(2))
    assert first.name == second.name
    assert client.wait(first.name).state == task_pb2.Task.SUCCEEDED


def test_cancelling_a_running_task_leaves_no_process(stack: LocalStack, dataset: str) -> None:
    task = create(stack, dataset, *ENDLESS)
    eventually(lambda: stack.state_of(task["name"]) == "RUNNING", 60, "running")
    assert stack.ranks()
    stack.run("task", "cancel", task["name"])
    eventually(lambda: stack.state_of(task["name"]) == "CANCELLED", 30, "cancelled")
    eventually(lambda: not (stack.ranks() or stack.supervisors()), 15, "a process is left")


def test_a_queued_task_is_cancelled_at_once_and_stays_so(stack: LocalStack, dataset: str) -> None:
    blocker = create(stack, dataset, *ENDLESS, "--set", "num_processes=2")
    eventually(lambda: stack.state_of(blocker["name"]) in ("STARTING", "RUNNING"), 60, "started")
    waiting = create(stack, dataset, *FAST, "--set", "num_processes=2")
    assert stack.json("task", "cancel", waiting["name"])["state"] == "CANCELLED"
    stack.run("task", "cancel", blocker["name"])
    eventually(lambda: stack.state_of(blocker["name"]) == "CANCELLED", 30, "cancelled")
    assert stack.state_of(waiting["name"]) == "CANCELLED"


def test_a_killed_training_process_fails_the_task_with_cause_and_last_lines(stack: LocalStack, dataset: str) -> None:
    task = create(stack, dataset, *ENDLESS)
    eventually(lambda: stack.state_of(task["name"]) == "RUNNING", 60, "running")
    stack.ranks()[0].kill()
    done = stack.run("task", "watch", task["name"], check=False)
    assert done.returncode == 3
    error = stack.json("task", "show", task["name"])["error"]
    assert error["reason"] == "TRAINING_PROCESS_KILLED"
    assert error["metadata"]["signal"] == "SIGKILL"
    assert error["message"]
    assert error["hint"]
    assert error["log_tail"]


def test_two_processes_learn_what_one_learns(stack: LocalStack, dataset: str) -> None:
    losses = {}
    for processes in (1, 2):
        task = create(stack, dataset, *FAST, "--set", f"num_processes={processes}", name=f"{processes} processes")
        stack.run("task", "watch", task["name"])
        points = stack.json_lines("task", "metrics", task["name"], "--metric", "loss")
        losses[processes] = [point["values"]["loss"] for point in points]
    assert stack.json("task", "show", task["name"])["effective_hyperparameters"]["zero_stage"] == 2
    assert losses[2] == pytest.approx(losses[1], rel=1e-4)


def test_the_second_client_sees_the_task_in_the_list(stack: LocalStack, finished: dict) -> None:
    names = [task["name"] for task in stack.json_lines("task", "ls")]
    assert finished["task"]["name"] in names


def test_an_exported_adapter_is_imported_back_answers_the_same_and_is_trained_on(
    stack: LocalStack, finished: dict, dataset: str, tmp_path: pathlib.Path
) -> None:
    artifact, question = finished["task"]["artifact"], ("-m", "number 3", "--max-tokens", "4")
    stack.run("artifact", "export", artifact, "exported")
    stack.run("registry", "download", "exported", str(tmp_path / "files"))
    how = ("--name", "imported", "--base-model", TINY, "--alias", "mine")
    version = stack.json("registry", "import", str(tmp_path / "files"), *how)
    assert (version["name"], version["format"]) == ("models/imported/versions/1", "ADAPTER")
    answers = [stack.json("model", "chat", name, *question)["message"] for name in (artifact, "models/imported@mine")]
    assert answers[0] == answers[1]
    child = create(stack, dataset, "--set", "max_steps=1", "--set", "logging_steps=1", "--from", "models/imported@mine")
    assert child["origin"]["artifact"] == "models/imported/versions/1"
    assert stack.run("task", "watch", child["name"]).returncode == 0
    points = [
        list(stack.json_lines("task", "metrics", name, "--metric", "loss")) for name in (finished["task"]["name"], child["name"])
    ]
    assert points[1][0]["values"]["loss"] < points[0][0]["values"]["loss"] - 0.1, "it begins where the other has ended"


def test_a_backup_of_the_running_stack_comes_back_in_another(stack: LocalStack, finished: dict, tmp_path: pathlib.Path) -> None:
    task = finished["task"]
    artifact = stack.json("artifact", "show", task["artifact"])
    saved = stack.json("backup", str(tmp_path / "backup"))
    assert (saved["damaged"], saved["contents"] > 0) == ([], True)
    other = LocalStack(tmp_path / "restored")
    restored = other.json("restore", str(tmp_path / "backup"), "--data-dir", str(other.directory))
    assert restored["contents"] == saved["contents"]
    with local_stack(tmp_path / "restored", "--no-base-model") as second:
        assert second.json("task", "show", task["name"]) == task
        assert second.json_lines("task", "watch", task["name"]) == finished["events"]
        # Compares every checksum with those of the first stack.
        second.run("artifact", "download", task["artifact"], str(tmp_path / "files"))
        assert second.json("artifact", "show", task["artifact"])["manifest"] == artifact["manifest"]
    again = other.run("restore", str(tmp_path / "backup"), check=False)
    assert again.returncode != 0
    assert "--data-dir" in again.stderr
