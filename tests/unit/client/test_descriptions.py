"""Plain values become messages of the contract: tasks, conversations, base models, pages."""

import datetime

import pytest
from fake_platform import a_run

from tunesmith import Client
from tunesmith.errors import InvalidArgument, NotFound
from tunesmith.inference import conversation
from tunesmith.task_filter import task_filter
from tunesmith.tasks import describe_task
from tunesmith.v1.inference_service_pb2 import ChatMessage
from tunesmith.v1.task_event_pb2 import LogEntry, TaskEvent
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import FineTuning, Hyperparameters, Lora


@pytest.fixture
def client(platform):
    with Client() as client:
        yield client


def describe(**changes) -> Task:
    return describe_task(**{"name": "n", "base_model": "tiny", "dataset": "d", **changes})


class TestTasks:
    def test_what_is_not_given_is_supervised_lora_without_validation_and_without_numbers(self):
        task = describe()
        tuning = task.spec.fine_tuning
        assert (tuning.method, tuning.tuning, tuning.validation_dataset) == (FineTuning.SFT, FineTuning.LORA, "")
        assert tuning.hyperparameters == Hyperparameters()
        assert (task.display_name, task.description, dict(task.labels), task.name) == ("n", "", {}, "")

    def test_labels_of_runners_are_part_of_what_is_asked_for(self):
        assert dict(describe(runner_labels={"zone": "a"}).spec.runner_labels) == {"zone": "a"}
        assert not describe().spec.runner_labels

    @pytest.mark.parametrize("word", ["sft", "SFT", "Sft"])
    def test_a_method_is_written_in_any_case(self, word):
        assert describe(method=word).spec.fine_tuning.method == FineTuning.SFT

    @pytest.mark.parametrize(
        ("changes", "reason", "hint"),
        [
            ({"method": "grpo"}, "METHOD_UNKNOWN", "Known: sft, dpo, kto, orpo, cpt, classification."),
            ({"method": ""}, "METHOD_UNKNOWN", "Known: sft, dpo, kto, orpo, cpt, classification."),
            ({"tuning": "prefix"}, "TUNING_UNKNOWN", "Known: lora, full, qlora."),
            ({"base_model": "tasks/1"}, "NAME_INVALID", "Give baseModels/ID or the bare ID."),
            ({"dataset": ""}, "NAME_INVALID", "Give datasets/ID or the bare ID."),
            ({"validation_dataset": "tasks/1"}, "NAME_INVALID", "Give datasets/ID or the bare ID."),
            ({"hyperparameters": {"lr": 1}}, "HYPERPARAMETER_UNKNOWN", "Did you mean learning_rate?"),
        ],
    )
    def test_what_cannot_be_right_is_refused_with_what_would_be(self, changes, reason, hint):
        with pytest.raises(InvalidArgument) as caught:
            describe(**changes)
        assert (caught.value.reason, caught.value.hint) == (reason, hint)

    def test_numbers_are_plain_values_or_the_message_itself(self):
        numbers = Hyperparameters(seed=1, lora=Lora(rank=4))
        assert describe(hyperparameters=numbers) == describe(hyperparameters={"seed": 1, "lora_rank": 4})

    def test_an_empty_validation_dataset_is_none(self):
        assert describe(validation_dataset="") == describe()

    def test_labels_and_description_are_kept(self):
        task = describe(labels={"team": "a"}, description="why")
        assert (dict(task.labels), task.description) == ({"team": "a"}, "why")

    def test_a_whole_task_is_sent_as_it_is(self, platform, client):
        task = describe(labels={"team": "a"})
        client.create_task(task, request_id="mine")
        assert platform.tasks.created[0].task == task
        assert platform.tasks.created[0].request_id == "mine"

    def test_a_plan_creates_nothing(self, platform, client):
        plan = client.plan_task(describe())
        assert (plan.example_count, list(plan.warnings)) == (320, ["few examples"])
        assert platform.tasks.stored == []

    def test_a_deleted_task_is_gone(self, platform, client):
        task = platform.tasks.add(Task.SUCCEEDED)
        client.delete_task(task.name)
        with pytest.raises(NotFound):
            client.get_task(task.name)

    def test_waiting_takes_a_name_an_id_or_the_task(self, platform, client):
        task = platform.tasks.add(Task.CANCELLED, events=a_run(ending=Task.CANCELLED))
        for given in (task, task.name, task.name.removeprefix("tasks/")):
            assert client.wait(given).state == Task.CANCELLED, "a task that did not succeed is an answer, not an error"

    def test_listed_events_start_after_the_cursor_and_keep_to_the_kinds(self, platform, client):
        task = platform.tasks.add(events=a_run(steps=3))
        after = [event.sequence for event in client.list_events(task.name, 5)]
        points = [event.step_metrics.step for event in client.list_events(task.name, kinds=[TaskEvent.STEP_METRICS])]
        assert (after, points) == ([6, 7, 8, 9], [1, 2, 3])
        assert list(client.list_events(task.name, 9)) == []

    def test_metric_history_can_be_of_some_metrics(self, platform, client):
        task = platform.tasks.add(events=a_run(steps=2))
        assert [series.metric for series in client.list_metrics(task.name).series] == ["loss", "tokens_per_second"]
        only = client.list_metrics(task.name, ["loss"]).series
        assert [[sample.value for sample in series.samples] for series in only] == [[3.0, 1.5]]

    def test_followed_logs_are_at_least_as_serious_as_asked(self, platform, client):
        task = platform.tasks.add(events=a_run())
        for severity, texts in (
            (LogEntry.INFO, ["all is well", "careful"]),
            (LogEntry.WARNING, ["careful"]),
            (LogEntry.ERROR, []),
        ):
            assert [line.entry.text for line in client.stream_logs(task.name, min_severity=severity)] == texts


class TestConversations:
    def test_words_are_the_users_turn(self):
        assert conversation("hello") == [ChatMessage(role="user", content="hello")]

    @pytest.mark.parametrize("system", [None, ""])
    def test_without_a_system_message_there_is_none(self, system):
        assert [turn.role for turn in conversation("hello", system)] == ["user"]

    def test_messages_and_mappings_mix_and_keep_their_order(self):
        turns = [ChatMessage(role="user", content="1"), {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"}]
        assert [(turn.role, turn.content) for turn in conversation(turns, "0")] == [
            ("system", "0"),
            ("user", "1"),
            ("assistant", "2"),
            ("user", "3"),
        ]

    def test_the_callers_messages_are_not_changed(self):
        turns = [{"role": "user", "content": "1"}]
        conversation(turns, "system")
        assert turns == [{"role": "user", "content": "1"}]

    def test_every_sampling_choice_travels_and_the_rest_stays_unset(self, platform, client):
        client.chat("tiny", "x", temperature=0.5, top_p=0.9, max_tokens=3, seed=1, stop=["\n"])
        list(client.stream_chat("tiny", "x"))
        chosen, plain = platform.inference.asked
        assert (chosen.temperature, chosen.top_p, chosen.max_tokens, chosen.seed, list(chosen.stop)) == (0.5, 0.9, 3, 1, ["\n"])
        assert not any(plain.HasField(name) for name in ("temperature", "top_p", "max_tokens", "seed"))

    def test_an_answer_can_be_left_before_it_is_whole(self, platform, client):
        answer = client.stream_chat("tiny", "you")
        assert next(answer).delta == "echo "
        answer.close()
        assert list(answer) == []


class TestModels:
    def test_listing_crosses_pages_in_order(self, client, tmp_path):
        (tmp_path / "config.json").write_bytes(b"{}")
        for name in "abcde":
            client.register_base_model(name, tmp_path)
        assert [model.name for model in client.list_base_models()] == [f"baseModels/{name}" for name in "abcde"]

    def test_progress_is_told_file_by_file(self, client, tmp_path):
        (tmp_path / "a").write_bytes(b"1")
        (tmp_path / "b").write_bytes(b"22")
        seen = []
        client.register_base_model("tiny", tmp_path, lambda done, total: seen.append((done, total)))
        assert seen == [(1, 1), (2, 2)]

    def test_an_empty_file_is_registered_too(self, platform, client, tmp_path):
        (tmp_path / "empty").touch()
        client.register_base_model("tiny", tmp_path)
        assert platform.models.bytes == {"empty": b""}

    def test_a_model_that_is_not_registered_is_not_found(self, client):
        with pytest.raises(NotFound) as caught:
            client.get_base_model("tiny")
        assert caught.value.reason == "BASE_MODEL_NOT_FOUND"


class TestDatasets:
    def test_the_display_name_can_be_chosen_and_the_request_id_too(self, platform, client, tmp_path):
        path = tmp_path / "train.jsonl"
        path.write_bytes(b"{}\n")
        client.upload_dataset(str(path), "Mine", request_id="once")
        header, _ = platform.datasets.uploads[0]
        assert (header.display_name, header.request_id) == ("Mine", "once")

    def test_an_empty_file_is_uploaded_as_nothing_and_left_to_the_service(self, platform, client, tmp_path):
        path = tmp_path / "empty.jsonl"
        path.touch()
        assert client.upload_dataset(path).size_bytes == 0
        assert platform.datasets.uploads[0][1] == b""

    def test_a_directory_is_refused_before_any_call(self, client, tmp_path):
        for verb in (client.upload_dataset, client.validate_dataset):
            with pytest.raises(InvalidArgument) as caught:
                verb(tmp_path)
            assert (caught.value.reason, caught.value.grpc_code) == ("FILE_NOT_FOUND", "")
            assert str(tmp_path) in caught.value.message

    def test_nothing_stored_is_nothing_listed(self, client):
        assert (list(client.list_datasets()), list(client.list_artifacts()), list(client.list_tasks())) == ([], [], [])


def test_a_task_may_wait_for_its_time_and_be_tried_once():
    time = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))
    task = describe(not_before_time=time, max_attempts=1)
    assert task.not_before_time.ToDatetime() == datetime.datetime(2026, 1, 1, 23)
    assert task.max_attempts == 1
    assert not describe().HasField("not_before_time")


def test_who_asks_is_said_in_words_of_their_own_and_found_by_them():
    assert (describe(creator="ann").creator, describe().creator) == ("ann", "")
    assert (task_filter(creator="ann").creator, task_filter().creator) == ("ann", "")


def test_what_the_model_is_asked_while_it_trains_is_part_of_the_task():
    task = describe_task(name="n", base_model="tiny", dataset="d", sample_prompts=["a", "b"])
    assert list(task.spec.fine_tuning.sample_prompts) == ["a", "b"]


@pytest.mark.parametrize("days", [None, 30])
def test_how_long_results_are_kept_is_asked_only_when_told(days):
    wanted = None if days is None else datetime.timedelta(days=days)
    spec = describe_task(name="n", base_model="tiny", dataset="d", artifact_retention=wanted).spec.fine_tuning
    assert spec.HasField("artifact_retention") == (days is not None)
    assert spec.artifact_retention.seconds == (days or 0) * 86400
