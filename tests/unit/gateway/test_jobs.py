"""Jobs are tasks: what is asked for arrives, what comes of it is told in OpenAI's words."""

import uuid

import pytest
from google.protobuf import duration_pb2, timestamp_pb2

from services.common.errors import NotFound
from services.gateway import identifiers
from services.gateway.jobs import Jobs
from tests.fake_platform import NOW
from tunesmith.v1.task_error_pb2 import TaskError
from tunesmith.v1.task_pb2 import Task, TaskProgress
from tunesmith.v1.task_spec_pb2 import FineTuning, Hyperparameters, TaskSpec, WeightedDataset

JOBS = "/v1/fine_tuning/jobs"
DATASET, OTHER = f"datasets/{uuid.uuid4()}", f"datasets/{uuid.uuid4()}"
FILE, OTHER_FILE = identifiers.file_id(DATASET), identifiers.file_id(OTHER)
SPEC = TaskSpec(fine_tuning=FineTuning(base_model="baseModels/tiny", dataset=DATASET, method="SFT", tuning="LORA"))


RESOLVED = Hyperparameters(num_train_epochs=3, max_steps=60, global_batch_size=16, learning_rate=2e-4, seed=42)


def add(platform, **facts) -> Task:
    """A task as the task manager has it: every number is resolved."""
    return platform.tasks.add(**{"effective_hyperparameters": RESOLVED, **facts})


async def created(http, platform, **body) -> Task:
    answer = await http.post(JOBS, json={"model": "tiny", "training_file": FILE, **body})
    assert answer.status_code == 200, answer.text
    return platform.tasks.created[-1].task


@pytest.mark.parametrize(("end", "checkpoint"), [("", ""), (":ckpt-step-20", "@step-20")])
async def test_a_job_can_start_from_what_another_has_learned(http, platform, end: str, checkpoint: str) -> None:
    task = await created(http, platform, model="ft:tiny:o::" + "0" * 32 + end)
    started = task.spec.fine_tuning
    assert started.base_model == "tiny"
    assert started.initial_artifact == f"tasks/{uuid.UUID(int=0)}{checkpoint}"


async def test_a_job_can_start_from_a_short_name(http, platform) -> None:
    earlier = add(platform, spec=SPEC)
    name = identifiers.tuned_model_id("tiny", "o", "", earlier.name)
    task = await created(http, platform, model=identifiers.checkpoint_model_id(name, 5))
    assert (task.spec.fine_tuning.base_model, task.spec.fine_tuning.initial_artifact) == ("tiny", f"{earlier.name}@step-5")


@pytest.mark.parametrize("reason", ["TASK_NOT_FOUND", "CHECKPOINT_NOT_FOUND", "ARTIFACT_EXPIRED"])
async def test_a_tuned_model_that_is_gone_is_the_model_that_is_not_found(http, platform, monkeypatch, reason: str) -> None:
    async def gone(*_, **__):
        raise NotFound(reason, "tasks/1", message="it is gone")

    monkeypatch.setattr(Jobs, "_create", gone)
    answer = await http.post(JOBS, json={"model": "ft:tiny:o::" + "0" * 32, "training_file": FILE})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "it is gone" in error["message"]


@pytest.mark.parametrize("limit", ["0000010009999999", "9" * 5000])
async def test_a_limit_is_read_whole(http, limit: str) -> None:
    answer = await http.get(JOBS, params={"limit": limit})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "limit")


async def test_a_tuned_model_of_another_form_is_not_found(http, platform) -> None:
    answer = await http.post(JOBS, json={"model": "ft:tiny:o::123", "training_file": FILE})
    assert answer.status_code == 404
    assert platform.tasks.created == []


async def refused(http, platform, **body) -> dict:
    answer = await http.post(JOBS, json={"model": "tiny", "training_file": FILE, **body})
    assert answer.status_code == 400, answer.text
    assert platform.tasks.created == []
    return answer.json()["error"]


async def test_a_job_of_two_fields_is_a_task_with_everything_left_to_the_server(http, platform) -> None:
    task = await created(http, platform)
    spec = task.spec.fine_tuning
    assert (spec.base_model, spec.dataset, spec.validation_dataset) == ("tiny", DATASET, "")
    assert spec.method == FineTuning.SFT
    assert spec.hyperparameters == Hyperparameters()
    assert task.display_name == "tiny"
    assert dict(task.labels) == {}


async def test_every_field_arrives(http, platform) -> None:
    task = await created(
        http,
        platform,
        validation_file=OTHER_FILE,
        suffix="My model",
        seed=7,
        metadata={"team": "support"},
        method={"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 2, "batch_size": 8, "beta": 0.2}}},
        tunesmith={
            "description": "why",
            "priority": 3,
            "tuning": "full",
            "hyperparameters": {"lr_scheduler_type": "linear", "warmup_steps": 5},
        },
    )
    spec = task.spec.fine_tuning
    assert (task.display_name, task.description, task.priority) == ("My model", "why", 3)
    assert dict(task.labels) == {"team": "support", "openai.suffix": "My model"}
    assert spec.validation_dataset == OTHER
    assert (spec.method, spec.tuning) == (FineTuning.DPO, FineTuning.FULL)
    numbers = Hyperparameters(
        num_train_epochs=2, global_batch_size=8, seed=7, lr_scheduler_type="linear", warmup_steps=5, preference={"beta": 0.2}
    )
    assert spec.hyperparameters == numbers


async def test_the_old_place_of_the_numbers_is_read_too_and_auto_means_unset(http, platform) -> None:
    task = await created(
        http, platform, hyperparameters={"n_epochs": 4, "batch_size": "auto", "learning_rate_multiplier": "auto"}
    )
    assert task.spec.fine_tuning.hyperparameters == Hyperparameters(num_train_epochs=4)


async def test_a_multiplier_is_times_the_learning_rate_that_would_be_chosen(http, platform) -> None:
    task = await created(http, platform, hyperparameters={"learning_rate_multiplier": 2})
    assert task.spec.fine_tuning.hyperparameters.learning_rate == pytest.approx(4e-4)
    job = (await http.get(f"{JOBS}/{identifiers.job_id(platform.tasks.stored[0].name)}")).json()
    assert job["hyperparameters"]["learning_rate_multiplier"] == 2
    assert job["metadata"] is None
    assert len(platform.tasks.created) == 1


async def test_our_own_method_goes_before_openais(http, platform) -> None:
    assert (await created(http, platform, tunesmith={"method": "kto"})).spec.fine_tuning.method == FineTuning.KTO


async def test_what_is_not_read_is_named_in_a_header(http, platform) -> None:
    answer = await http.post(JOBS, json={"model": "tiny", "training_file": FILE, "user": "x", "trainer": {}})
    assert answer.status_code == 200
    assert answer.headers["x-tunesmith-ignored"] == "trainer, user"


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ({"model": None}, "model"),
        ({"model": 3}, "model"),
        ({"training_file": ""}, "training_file"),
        ({"training_file": "file-nothing"}, "training_file"),
        ({"training_file": "file-results-" + "0" * 32}, "training_file"),
        ({"validation_file": "file-nothing"}, "validation_file"),
        ({"suffix": "x" * 65}, "suffix"),
        ({"seed": "7"}, "seed"),
        ({"seed": True}, "seed"),
        ({"seed": 2**70}, "seed"),
        ({"metadata": {"k": 1}}, "metadata"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"metadata": {"openai.suffix": "v"}}, "metadata"),
        ({"metadata": {str(number): "v" for number in range(17)}}, "metadata"),
        ({"integrations": [{"type": "wandb"}]}, "integrations"),
        ({"method": {"type": "reinforcement"}}, "method.type"),
        ({"method": {}}, "method.type"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": "many"}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"rank": 4}}, "hyperparameters.rank"),
        (
            {"method": {"type": "supervised", "supervised": {"hyperparameters": {"beta": 1}}}},
            "method.supervised.hyperparameters.beta",
        ),
        (
            {"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 1}}}, "hyperparameters": {"n_epochs": 1}},
            "hyperparameters",
        ),
        ({"tunesmith": {"rank": 4}}, "tunesmith.rank"),
        ({"tunesmith": {"tuning": "half"}}, "tunesmith.tuning"),
        ({"tunesmith": {"hyperparameters": {"lora_rank": 4}}}, "tunesmith.hyperparameters.lora_rank"),
        ({"tunesmith": {"hyperparameters": {"lora": {"rang": 4}}}}, "tunesmith.hyperparameters.lora.rang"),
        ({"tunesmith": {"hyperparameters": {"lora": {"rank": "x"}}}}, "tunesmith.hyperparameters"),
        ({"tunesmith": {"hyperparameters": {"lora": 4}}}, "tunesmith.hyperparameters"),
        ({"tunesmith": {"hyperparameters": {"max_steps": "x"}}}, "tunesmith.hyperparameters"),
        (
            {"tunesmith": {"hyperparameters": {"num_train_epochs": 1}}, "hyperparameters": {"n_epochs": 2}},
            "tunesmith.hyperparameters.num_train_epochs",
        ),
    ],
    ids=str,
)
async def test_a_bad_field_is_named_and_nothing_is_created(http, platform, body: dict, parameter: str) -> None:
    error = await refused(http, platform, **body)
    assert error["param"] == parameter
    assert error["message"].startswith(parameter)


@pytest.mark.parametrize("raw", [b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000], ids=["cut", "array", "string", "bytes", "deep"])
async def test_a_body_that_is_no_object_is_refused(http, raw: bytes) -> None:
    answer = await http.post(JOBS, content=raw, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "body")


async def test_a_repeat_under_one_key_is_one_request_and_another_key_another(http, platform) -> None:
    body = {"model": "tiny", "training_file": FILE}
    for key in ("one", "one", "two", None):
        await http.post(JOBS, json=body, headers={"idempotency-key": key} if key else {})
    ids = [request.request_id for request in platform.tasks.created]
    assert ids[0] == ids[1] != ids[2]
    assert str(uuid.UUID(ids[0])) == ids[0]
    assert ids[3] == ""


async def test_a_finished_job_is_told_whole(http, platform) -> None:
    task = add(
        platform,
        spec=SPEC,
        labels={"openai.suffix": "Numbers", "team": "a"},
        effective_hyperparameters=Hyperparameters(num_train_epochs=3, global_batch_size=16, seed=42, learning_rate=1e-4),
        end_time=timestamp_pb2.Timestamp(seconds=NOW.seconds + 60),
        progress=TaskProgress(step=5, total_steps=5, metrics={"tokens": 1234.0}),
        artifact="artifacts/x",
    )
    job = (await http.get(f"{JOBS}/{identifiers.job_id(task.name)}")).json()
    tuned = f"ft:tiny:tunesmith:numbers:{uuid.UUID(task.name.removeprefix('tasks/')).hex[:8]}"
    ours = job.pop("tunesmith")
    numbers = {"n_epochs": 3, "batch_size": 16, "learning_rate_multiplier": "auto"}
    assert job == {
        "id": identifiers.job_id(task.name),
        "object": "fine_tuning.job",
        "created_at": NOW.seconds,
        "finished_at": NOW.seconds + 60,
        "estimated_finish": None,
        "error": None,
        "fine_tuned_model": tuned,
        "model": "tiny",
        "organization_id": "tunesmith",
        "status": "succeeded",
        "hyperparameters": numbers,
        "method": {"type": "supervised", "supervised": {"hyperparameters": numbers}},
        "training_file": FILE,
        "validation_file": None,
        "result_files": [identifiers.results_id(task.name)],
        "trained_tokens": 1234,
        "seed": 42,
        "integrations": [],
        "metadata": {"team": "a"},
    }
    assert (ours["task"], ours["state"], ours["tuning"]) == (task.name, "succeeded", "lora")


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (Task.QUEUED, "queued"),
        (Task.STARTING, "running"),
        (Task.RUNNING, "running"),
        (Task.PAUSING, "running"),
        (Task.PAUSED, "paused"),
        (Task.CANCELLING, "running"),
        (Task.CANCELLED, "cancelled"),
        (Task.FAILED, "failed"),
    ],
)
async def test_every_state_has_a_status(http, platform, state, status: str) -> None:
    task = add(platform, state=state, spec=SPEC)
    job = (await http.get(f"{JOBS}/{identifiers.job_id(task.name)}")).json()
    assert (job["status"], job["fine_tuned_model"], job["result_files"]) == (status, None, [])


async def test_a_failure_is_told_with_what_to_do(http, platform) -> None:
    error = TaskError(reason="LOSS_NOT_FINITE", message="the loss is nan", hint="Lower it.")
    task = add(platform, state=Task.FAILED, spec=SPEC, error=error)
    job = (await http.get(f"{JOBS}/{identifiers.job_id(task.name)}")).json()
    assert job["error"] == {"code": "loss_not_finite", "message": "the loss is nan Lower it.", "param": None}


async def test_a_running_job_tells_when_it_will_end(http, platform) -> None:
    progress = TaskProgress(step=1, total_steps=5, remaining=duration_pb2.Duration(seconds=3600))
    task = add(platform, state=Task.RUNNING, spec=SPEC, progress=progress)
    job = (await http.get(f"{JOBS}/{identifiers.job_id(task.name)}")).json()
    assert job["estimated_finish"] > 3600


async def test_a_job_without_a_name_in_openais_words_says_so_itself(http, platform) -> None:
    mixture = [WeightedDataset(dataset=OTHER), WeightedDataset(dataset=DATASET)]
    numbers = Hyperparameters(max_steps=10, global_batch_size=16)
    asked = Hyperparameters(max_steps=10)
    fine_tuning = FineTuning(base_model="baseModels/tiny", mixture=mixture, method="ORPO", hyperparameters=asked)
    spec = TaskSpec(fine_tuning=fine_tuning)
    task = add(platform, spec=spec, effective_hyperparameters=numbers)
    job = (await http.get(f"{JOBS}/{identifiers.job_id(task.name)}")).json()
    assert (job["method"], job["tunesmith"]["method"], job["training_file"]) == (None, "orpo", OTHER_FILE)
    assert job["hyperparameters"]["n_epochs"] == "auto"


def newest_first(platform, count: int, **facts) -> list[str]:
    """Jobs of which two and two were created in the same moment."""
    for number in range(count):
        task = add(platform, state=Task.QUEUED, spec=SPEC, **facts)
        task.create_time.seconds = NOW.seconds + number // 2
    platform.tasks.stored.sort(key=lambda task: (task.create_time.seconds, task.name), reverse=True)
    return [identifiers.job_id(task.name) for task in platform.tasks.stored]


async def pages(http, url: str, limit: int, meanwhile=lambda: None) -> list[str]:
    found: list[str] = []
    after = ""
    while True:
        page = (await http.get(url, params={"limit": limit, **({"after": after} if after else {})})).json()
        found += [each["id"] for each in page["data"]]
        assert (page["object"], len(page["data"]) <= limit) == ("list", True)
        if not page["has_more"]:
            return found
        after = page["last_id"]
        meanwhile()


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
async def test_pages_hold_every_job_once_while_new_ones_arrive(http, platform, limit: int) -> None:
    expected = newest_first(platform, 7)

    def one_more() -> None:
        task = add(platform, state=Task.QUEUED, spec=SPEC)
        platform.tasks.stored.remove(task)
        task.create_time.seconds = NOW.seconds + 1000
        platform.tasks.stored.insert(0, task)

    assert await pages(http, JOBS, limit, one_more) == expected


async def test_jobs_are_found_by_metadata_or_by_having_none(http, platform) -> None:
    newest_first(platform, 2, labels={"team": "a", "openai.suffix": "x"})
    newest_first(platform, 2, labels={"openai.suffix": "x"})
    of_team = (await http.get(JOBS, params={"metadata[team]": "a"})).json()["data"]
    without = (await http.get(JOBS, params={"metadata": "null"})).json()["data"]
    assert (len(of_team), len(without)) == (2, 2)
    assert {job["metadata"] is None for job in without} == {True}
    assert (await http.get(JOBS, params={"metadata[team]": "b"})).json()["data"] == []


@pytest.mark.parametrize("after", ["ftjob-x", identifiers.job_id(f"tasks/{uuid.UUID(int=1)}")])
async def test_an_unknown_cursor_is_no_empty_page(http, after: str) -> None:
    answer = await http.get(JOBS, params={"after": after})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "after")


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1001", "", "٣"])
async def test_a_bad_limit_is_named(http, limit: str) -> None:
    answer = await http.get(JOBS, params={"limit": limit})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "limit")


async def test_a_job_is_cancelled_paused_and_resumed(http, platform) -> None:
    task = add(platform, state=Task.RUNNING, spec=SPEC)
    path = f"{JOBS}/{identifiers.job_id(task.name)}"
    assert (await http.post(path + "/pause")).json()["tunesmith"]["state"] == "pausing"
    task.state = Task.PAUSED
    assert (await http.post(path + "/resume")).json()["status"] == "queued"
    assert (await http.post(path + "/cancel")).json()["status"] == "cancelled"
    assert (await http.post(path + "/cancel")).json()["status"] == "cancelled"


@pytest.mark.parametrize(
    ("state", "verb", "code"),
    [
        (Task.SUCCEEDED, "cancel", "job_ended"),
        (Task.FAILED, "cancel", "job_ended"),
        (Task.QUEUED, "pause", "task_not_running"),
        (Task.QUEUED, "resume", "task_not_paused"),
    ],
)
async def test_what_the_state_forbids_is_a_conflict_that_is_not_repeated(http, platform, state, verb: str, code: str) -> None:
    task = add(platform, state=state, spec=SPEC)
    answer = await http.post(f"{JOBS}/{identifiers.job_id(task.name)}/{verb}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, code)
    assert answer.headers["x-should-retry"] == "false"


async def test_tasks_of_other_kinds_are_no_jobs(http, platform) -> None:
    job = add(platform, spec=SPEC)
    other = add(platform, spec=TaskSpec(evaluation={}), artifact="artifacts/1")
    assert [each["id"] for each in (await http.get(JOBS)).json()["data"]] == [identifiers.job_id(job.name)]
    path = f"{JOBS}/{identifiers.job_id(other.name)}"
    asked = [http.get(path), http.get(path + "/events"), http.get(path + "/checkpoints")]
    asked += [http.post(f"{path}/{verb}") for verb in ("cancel", "pause", "resume")]
    for answer in asked:
        found = await answer
        assert (found.status_code, found.json()["error"]["code"]) == (404, "fine_tune_not_found")


async def test_a_job_that_does_not_exist_is_not_found(http) -> None:
    for identifier in ("ftjob-x", "x", identifiers.job_id(f"tasks/{uuid.uuid4()}")):
        answer = await http.get(f"{JOBS}/{identifier}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "fine_tune_not_found")
