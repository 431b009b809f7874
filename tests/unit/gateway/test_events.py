"""Events and metrics, in pages from the newest and as streams that resume."""

import json

import pytest

from services.gateway import identifiers
from services.gateway.event_conversion import EventConversion, number
from services.gateway.job_conversion import JobConversion
from tests.fake_platform import a_run
from tunesmith.v1.task_error_pb2 import TaskError
from tunesmith.v1.task_event_pb2 import Anomaly, ArtifactCreated, CheckpointSaved, StepMetrics, TaskEvent
from tunesmith.v1.task_manager_service_pb2 import Checkpoint
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import FineTuning, TaskSpec

SPEC = TaskSpec(fine_tuning=FineTuning(base_model="baseModels/tiny"))
LOGS = (4, 5)  # what a_run has that OpenAI has no event for


def finished(platform, steps: int = 3, **facts) -> str:
    events = a_run(steps=steps, **facts)
    task = platform.tasks.add(spec=SPEC, events=events, head_sequence=len(events))
    return f"/v1/fine_tuning/jobs/{identifiers.job_id(task.name)}"


def events_of(text: str) -> list[tuple[str | None, str]]:
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if fields:
            found.append((fields.get("id"), fields["data"]))
    return found


@pytest.mark.parametrize("limit", [1, 2, 4, 20])
async def test_pages_are_newest_first_and_what_arrives_meanwhile_shifts_nothing(http, platform, limit: int) -> None:
    path = finished(platform)
    (task,) = platform.tasks.stored
    expected = [event.sequence for event in reversed(platform.tasks.events[task.name]) if event.sequence not in LOGS]
    found: list[int] = []
    after: dict[str, str] = {}
    while True:
        page = (await http.get(path + "/events", params={"limit": limit, **after})).json()
        found += [event["data"]["sequence"] for event in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
        task.head_sequence += 1
        new = TaskEvent(sequence=task.head_sequence, step_metrics=StepMetrics(step=9))
        platform.tasks.events[task.name].append(new)
    assert found == expected


async def test_an_event_says_what_happened_in_words_and_numbers(http, platform) -> None:
    events = (await http.get(finished(platform) + "/events")).json()["data"]
    newest, point, started, oldest = events[0], events[1], events[-3], events[-1]
    assert (newest["message"], newest["level"], newest["type"]) == ("Succeeded: ended", "info", "message")
    assert (point["message"], point["type"]) == ("Step 3: train loss 1", "metrics")
    assert point["data"] == {"step": 3, "train_loss": 1.0, "tokens_per_second": 100.0, "sequence": 8, "attempt": 1}
    assert started["message"] == "Training begins: 3 steps, 0 examples"
    assert oldest["object"] == "fine_tuning.job.event"
    assert oldest["id"].startswith("ftevent-")


async def test_a_failure_is_an_error_with_its_cause(http, platform) -> None:
    error = TaskError(reason="LOSS_NOT_FINITE", message="the loss is nan")
    events = (await http.get(finished(platform, ending=Task.FAILED, error=error) + "/events")).json()["data"]
    assert (events[0]["level"], events[0]["message"]) == ("error", "Failed: the loss is nan")


@pytest.mark.parametrize(
    ("fact", "level", "message"),
    [
        ({"anomaly": Anomaly(reason="LOSS_NOT_FINITE", message="nan at 3", step=3)}, "warn", "nan at 3"),
        ({"checkpoint_saved": CheckpointSaved(step=20)}, "info", "Checkpoint created at step 20"),
        (
            {"artifact_created": ArtifactCreated(artifact="artifacts/1")},
            "info",
            "New fine-tuned model created: ft:tiny:acme::" + "0" * 8,
        ),
        ({}, "info", "An event of a kind this gateway does not know"),
    ],
    ids=["anomaly", "checkpoint", "artifact", "unknown"],
)
def test_other_kinds(fact: dict, level: str, message: str) -> None:
    task = Task(name="tasks/" + "0" * 32, spec=SPEC)
    told = EventConversion(task, JobConversion("acme", lambda: 0.0)).event(TaskEvent(sequence=1, **fact))
    assert (told["level"], told["message"]) == (level, message)


def test_a_value_json_cannot_hold_is_a_word() -> None:
    values = [number(value) for value in (1.5, float("nan"), float("inf"), float("-inf"))]
    assert json.loads(json.dumps(values, allow_nan=False)) == [1.5, "NaN", "Infinity", "-Infinity"]


@pytest.mark.parametrize("after", ["x", "ftevent-1", "other"])
async def test_an_unknown_cursor_is_no_empty_page(http, platform, after: str) -> None:
    path = finished(platform)
    (task,) = platform.tasks.stored
    cursor = identifiers.event_id(task.name, 99) if after == "other" else after
    answer = await http.get(path + "/events", params={"after": cursor})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "after")


async def test_the_stream_tells_every_event_with_its_number_and_ends_with_done(http, platform) -> None:
    path = finished(platform)
    answer = await http.get(path + "/events", params={"stream": "true"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer.text)
    assert [number for number, _ in events] == ["1", "2", "3", "6", "7", "8", "9", None]
    assert events[-1][1] == "[DONE]"
    paged = (await http.get(path + "/events")).json()["data"]
    assert [json.loads(data) for _, data in events[:-1]] == paged[::-1]


async def test_the_stream_resumes_behind_the_last_event(http, platform) -> None:
    path = finished(platform)
    answer = await http.get(path + "/events", params={"stream": "true"}, headers={"last-event-id": "7"})
    assert [number for number, _ in events_of(answer.text)] == ["8", "9", None]
    assert platform.tasks.cursors == [7]


async def test_metrics_stream_and_resume_too(http, platform) -> None:
    path = finished(platform)
    answer = await http.get(path + "/metrics", params={"stream": "true"}, headers={"last-event-id": "6"})
    (first, second, done) = events_of(answer.text)
    assert json.loads(first[1]) == {
        "object": "fine_tuning.job.metrics",
        "created_at": 0,
        "step": 2,
        "train_loss": 1.5,
        "tokens_per_second": 100.0,
        "sequence": 7,
        "attempt": 0,
    }
    assert (second[0], done[1]) == ("8", "[DONE]")


async def test_a_stream_that_is_broken_off_tells_why_and_has_no_done(http, platform) -> None:
    path = finished(platform)
    platform.tasks.break_after = [3]
    events = events_of((await http.get(path + "/events", params={"stream": "true"})).text)
    assert [number for number, _ in events] == ["1", "2", None]
    assert json.loads(events[-1][1])["error"]["type"] == "server_error"


@pytest.mark.parametrize("value", ["x", "-1", "1" * 19, "1.5"])
async def test_a_bad_last_event_id_is_refused(http, platform, value: str) -> None:
    answer = await http.get(finished(platform) + "/events", params={"stream": "true"}, headers={"last-event-id": value})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Last-Event-ID")


async def test_metrics_are_a_list_of_series(http, platform) -> None:
    page = (await http.get(finished(platform) + "/metrics", params={"limit": 10})).json()
    assert [series["id"] for series in page["data"]] == ["loss", "tokens_per_second"]
    assert page["data"][0]["samples"] == [{"step": 1, "value": 3.0}, {"step": 2, "value": 1.5}, {"step": 3, "value": 1.0}]


async def test_a_job_without_checkpoints_has_an_empty_list(http, platform) -> None:
    page = (await http.get(finished(platform) + "/checkpoints")).json()
    assert page == {"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None}


def with_checkpoints(platform, *steps: int) -> str:
    path = finished(platform)
    task = identifiers.task_name(path.rpartition("/")[2])
    made = {"create_time": {"seconds": 9}, "metrics": {"loss": 1.5, "eval_loss": 2.0, "grad_norm": float("nan")}}
    platform.tasks.checkpoints[task] = [Checkpoint(name=f"{task}@step-{step}", step=step, **made) for step in steps]
    return path


async def test_a_checkpoint_is_a_model_with_its_numbers(http, platform) -> None:
    path = with_checkpoints(platform, 20)
    job, hexadecimal = path.rpartition("/")[2], path.rpartition("-")[2]
    assert (await http.get(path + "/checkpoints")).json()["data"] == [
        {
            "id": f"ftckpt_{hexadecimal}_20",
            "object": "fine_tuning.job.checkpoint",
            "created_at": 9,
            "fine_tuned_model_checkpoint": f"ft:tiny:tunesmith::{hexadecimal[:8]}:ckpt-step-20",
            "fine_tuning_job_id": job,
            "metrics": {"step": 20, "train_loss": 1.5, "valid_loss": 2.0},
            "step_number": 20,
        }
    ]


async def test_checkpoints_come_in_pages_newest_first(http, platform) -> None:
    path, told, after = with_checkpoints(platform, 30, 20, 10) + "/checkpoints", [], {}
    for more in (True, False):
        page = (await http.get(path, params={"limit": 2, **after})).json()
        assert page["has_more"] is more
        told += [each["step_number"] for each in page["data"]]
        after = {"after": page["last_id"]}
    assert told == [30, 20, 10]
    assert (await http.get(path, params=after)).json()["data"] == []


@pytest.mark.parametrize("after", ["ftckpt_x", identifiers.checkpoint_id("tasks/" + "0" * 32, 20)])
async def test_a_checkpoint_of_no_list_is_no_cursor(http, platform, after: str) -> None:
    answer = await http.get(with_checkpoints(platform, 20) + "/checkpoints", params={"after": after})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "after")


@pytest.mark.parametrize("part", ["events", "metrics", "checkpoints"])
async def test_a_job_that_does_not_exist_has_none(http, part: str) -> None:
    answer = await http.get(f"/v1/fine_tuning/jobs/{identifiers.job_id('tasks/' + '0' * 32)}/{part}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "fine_tune_not_found")
