"""The SDK against scripted services."""

import hashlib
import uuid
from pathlib import Path

import pytest
from fake_platform import one_fails

from tunesmith import Client, TunesmithError
from tunesmith.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, Unreachable
from tunesmith.local.ports import pick_free
from tunesmith.tasks import AtLeast
from tunesmith.v1.task_manager_service_pb2 import Checkpoint
from tunesmith.v1.task_pb2 import Task


@pytest.fixture
def client(platform):
    with Client() as client:
        yield client


def write(path: Path, body: bytes = b'{"messages": []}\n') -> Path:
    path.write_bytes(body)
    return path


class TestDatasets:
    def test_an_upload_sends_every_byte_with_name_checksum_and_request_id(self, platform, client, tmp_path):
        body = b"x" * (2 * 1024 * 1024) + b"\n"
        seen = []
        dataset = client.upload_dataset(
            write(tmp_path / "train.jsonl", body), progress=lambda done, total: seen.append((done, total))
        )
        header, received = platform.datasets.uploads[0]
        assert received == body
        assert (header.display_name, header.sha256) == ("train.jsonl", hashlib.sha256(body).hexdigest())
        assert header.request_id
        assert seen[-1] == (len(body), len(body))
        assert dataset.name.startswith("datasets/")

    def test_a_bad_file_is_refused_with_its_rows_as_violations(self, client, tmp_path):
        with pytest.raises(InvalidArgument) as caught:
            client.upload_dataset(write(tmp_path / "bad.jsonl", b'{"role": "assistent"}\n'))
        assert caught.value.reason == "DATASET_INVALID"
        assert caught.value.violations[0].field == "line 1: messages[1].role"
        assert caught.value.hint == "Mend the rows."

    def test_a_missing_file_is_said_before_any_call(self, client, tmp_path):
        with pytest.raises(InvalidArgument) as caught:
            client.upload_dataset(tmp_path / "missing.jsonl")
        assert (caught.value.reason, caught.value.grpc_code) == ("FILE_NOT_FOUND", "")

    def test_a_check_answers_with_bad_rows_and_stores_nothing(self, platform, client, tmp_path):
        report = client.validate_dataset(write(tmp_path / "bad.jsonl", b'{"role": "assistent"}\n'))
        assert not report.valid
        assert platform.datasets.stored == []

    def test_listing_crosses_pages(self, client, tmp_path):
        names = [client.upload_dataset(write(tmp_path / f"{n}.jsonl")).display_name for n in range(5)]
        assert [d.display_name for d in client.list_datasets()] == names[::-1]

    def test_a_bare_id_and_a_name_find_the_same(self, client, tmp_path):
        dataset = client.upload_dataset(write(tmp_path / "a.jsonl"))
        assert client.get_dataset(dataset.name) == client.get_dataset(dataset.name.removeprefix("datasets/"))

    def test_a_deleted_dataset_is_not_found(self, client, tmp_path):
        dataset = client.upload_dataset(write(tmp_path / "a.jsonl"))
        client.delete_dataset(dataset.name)
        with pytest.raises(NotFound) as caught:
            client.get_dataset(dataset.name)
        assert caught.value.reason == "DATASET_NOT_FOUND"

    def test_a_name_of_another_collection_is_refused(self, client):
        with pytest.raises(InvalidArgument, match="datasets"):
            client.get_dataset("tasks/1")


class TestTasks:
    def test_create_builds_the_spec_from_plain_values(self, platform, client):
        client.create_task(
            name="n", base_model="tiny", dataset="d1", hyperparameters={"learning_rate": 1e-4, "lora": {"rank": 8}}
        )
        spec = platform.tasks.created[0].task.spec.fine_tuning
        assert (spec.base_model, spec.dataset) == ("baseModels/tiny", "datasets/d1")
        assert (spec.hyperparameters.learning_rate, spec.hyperparameters.lora.rank) == (1e-4, 8)
        assert not spec.hyperparameters.HasField("seed"), "unset stays unset"

    def test_every_create_has_a_request_id_of_its_own(self, platform, client):
        for _ in range(2):
            client.create_task(name="n", base_model="tiny", dataset="d")
        first, second = platform.tasks.created
        assert first.request_id
        assert first.request_id != second.request_id

    def test_a_refused_task_names_its_fields(self, client):
        with pytest.raises(InvalidArgument) as caught:
            client.create_task(name="", base_model="tiny", dataset="d")
        assert [v.field for v in caught.value.violations] == ["task.display_name"]
        assert "task.display_name: must have" in str(caught.value)

    def test_an_unknown_method_lists_the_known(self, client):
        with pytest.raises(InvalidArgument) as caught:
            client.create_task(name="n", base_model="tiny", dataset="d", method="magic")
        assert caught.value.hint == "Known: sft, dpo, kto, orpo, cpt, classification."

    def test_api_key_and_request_id_travel_as_metadata(self, platform, client, monkeypatch):
        monkeypatch.setenv("TUNESMITH_API_KEY", "secret")
        client.create_task(name="n", base_model="tiny", dataset="d")
        assert platform.tasks.metadata[0]["authorization"] == "Bearer secret"
        assert platform.tasks.metadata[0]["x-request-id"]

    def test_listing_filters_by_state(self, platform, client):
        platform.tasks.add(Task.RUNNING)
        done = [platform.tasks.add(Task.SUCCEEDED) for _ in range(3)]
        assert list(client.list_tasks(states=[Task.SUCCEEDED])) == done

    def test_listing_filters_by_what_a_task_is(self, platform, client):
        platform.tasks.add(Task.RUNNING, description="nightly", labels={"team": "a"})
        wanted = platform.tasks.add(Task.RUNNING, description="Weekly", labels={"team": "b", "tier": "1"})
        assert list(client.list_tasks(text="weekly", labels={"team": "b"})) == [wanted]
        assert list(client.list_tasks(base_model="other")) == []
        with pytest.raises(InvalidArgument):
            list(client.list_tasks(methods=["magic"]))

    def test_counting_tells_the_states(self, platform, client):
        for state in (Task.RUNNING, Task.SUCCEEDED, Task.RUNNING):
            platform.tasks.add(state)
        assert client.count_tasks() == {Task.RUNNING: 2, Task.SUCCEEDED: 1}
        assert client.count_tasks(states=[Task.SUCCEEDED]) == {Task.SUCCEEDED: 1}

    def test_what_was_not_counted_to_the_end_says_so(self, platform, client):
        for state in (Task.RUNNING, Task.SUCCEEDED, Task.SUCCEEDED, Task.SUCCEEDED):
            platform.tasks.add(state)
        platform.tasks.counts_to = 2
        totals = client.count_tasks()
        assert totals == {Task.RUNNING: 1, Task.SUCCEEDED: 2}
        assert {state: type(total) for state, total in totals.items()} == {Task.RUNNING: int, Task.SUCCEEDED: AtLeast}
        assert f"{totals[Task.SUCCEEDED]}, {AtLeast(12_345)} and {totals[Task.RUNNING]}" == "2+, 12,345+ and 1"

    def test_updating_changes_only_what_is_given(self, platform, client):
        task = platform.tasks.add(description="d", labels={"team": "a"})
        updated = client.update_task(task.name, display_name="new")
        assert (updated.display_name, updated.description, dict(updated.labels)) == ("new", "d", {"team": "a"})
        assert dict(client.update_task(task.name, labels={}).labels) == {}

    def test_a_running_task_is_not_deleted(self, platform, client):
        task = platform.tasks.add(Task.RUNNING)
        with pytest.raises(FailedPrecondition):
            client.delete_task(task.name)

    def test_deleting_again_is_an_error_unless_that_is_fine(self, platform, client):
        task = platform.tasks.add()
        client.delete_task(task.name)
        with pytest.raises(NotFound):
            client.delete_task(task.name)
        client.delete_task(task.name, allow_missing=True)

    def test_two_tasks_are_compared(self, platform, client):
        first, second = platform.tasks.add(), platform.tasks.add()
        second.display_name = "other"
        (difference,) = client.diff_tasks(first.name, second.name.removeprefix("tasks/")).differences
        assert (difference.field, difference.first, difference.second) == ("display_name", "first", "other")

    def test_cancel_returns_the_task_with_its_reason(self, platform, client):
        task = platform.tasks.add(Task.RUNNING)
        assert client.cancel_task(task.name, "enough").state_reason == "enough"

    def test_pause_and_resume_return_the_task(self, platform, client):
        running, paused = platform.tasks.add(Task.RUNNING), platform.tasks.add(Task.PAUSED)
        assert client.pause_task(running.name, "later").state == Task.PAUSING
        assert client.resume_task(paused.name).state == Task.QUEUED

    def test_retry_returns_the_task_and_is_repeatable_by_its_request_id(self, platform, client):
        failed = platform.tasks.add(Task.FAILED)
        assert client.retry_task(failed.name, hyperparameters={"lr_scheduler_type": "linear"}).state == Task.QUEUED
        assert uuid.UUID(platform.tasks.retried[0].request_id)
        with pytest.raises(FailedPrecondition):
            client.retry_task(failed.name, request_id="4d3f9b52-7d0f-4a3c-9d0c-2f1f0a4b7f11")

    def test_checkpoints_are_asked_for_and_listed(self, platform, client):
        task = platform.tasks.add(Task.RUNNING)
        assert client.save_checkpoint(task.name, "good").after_sequence == 0
        platform.tasks.checkpoints[task.name] = [Checkpoint(step=8)]
        assert [checkpoint.step for checkpoint in client.list_checkpoints(task.name)] == [8]

    def test_what_rests_already_cannot_be_paused(self, platform, client):
        with pytest.raises(FailedPrecondition):
            client.pause_task(platform.tasks.add(Task.SUCCEEDED).name)

    def test_plan_says_what_would_be_done(self, client):
        assert client.plan_task(name="n", base_model="tiny", dataset="d").total_steps == 40


class TestArtifacts:
    def test_a_download_writes_every_file(self, platform, client, tmp_path):
        artifact = platform.artifacts.add({"adapter.bin": b"0123456789", "deep/config.json": b"{}"})
        paths = client.download_artifact(artifact.name, tmp_path / "out")
        assert [path.read_bytes() for path in paths] == [b"0123456789", b"{}"]
        assert paths[1] == tmp_path / "out" / "deep" / "config.json"

    def test_a_wrong_checksum_leaves_nothing_behind(self, platform, client, tmp_path):
        artifact = platform.artifacts.add({"adapter.bin": b"0123456789"})
        platform.artifacts.files[artifact.name, "adapter.bin"] = b"other"
        with pytest.raises(DataLoss):
            client.download_artifact(artifact.name, tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == []

    @pytest.mark.parametrize("path", ["../escape", "/etc/passwd", "a/../../b", "a\\b", "", "a//b"])
    def test_a_path_that_leaves_the_directory_is_refused_before_anything_is_written(self, platform, client, tmp_path, path):
        artifact = platform.artifacts.add({"good": b"1", path: b"2"})
        with pytest.raises(InvalidArgument) as caught:
            client.download_artifact(artifact.name, tmp_path / "out")
        assert caught.value.reason == "PATH_UNSAFE"
        assert not (tmp_path / "out").exists()

    def test_an_expired_artifact_says_so(self, client):
        with pytest.raises(NotFound) as caught:
            client.get_artifact("gone")
        assert caught.value.reason == "ARTIFACT_EXPIRED"

    def test_listing_can_be_of_one_task(self, platform, client):
        for number in range(3):
            platform.artifacts.add({"a": b"1"}, task=f"tasks/{number}")
        assert [artifact.manifest.task for artifact in client.list_artifacts(task="2")] == ["tasks/2"]


class TestModels:
    def test_registering_sends_every_file_in_order_with_checksums(self, platform, client, tmp_path):
        (tmp_path / "sub").mkdir()
        (tmp_path / "model.safetensors").write_bytes(b"w" * (1024 * 1024 + 1))
        (tmp_path / "sub" / "config.json").write_bytes(b"{}")
        client.register_base_model("tiny", tmp_path, display_name="Tiny", parameter_count=7)
        model = client.get_base_model("tiny")
        assert (model.display_name, model.parameter_count) == ("Tiny", 7)
        assert platform.models.bytes == {"model.safetensors": b"w" * (1024 * 1024 + 1), "sub/config.json": b"{}"}

    def test_a_string_becomes_the_users_turn_after_the_system_message(self, platform, client):
        answer = client.chat("tiny", "hello", system="be short", temperature=0.0, seed=None)
        request = platform.inference.asked[0]
        assert answer.message.content == "echo hello"
        assert [(m.role, m.content) for m in request.messages] == [("system", "be short"), ("user", "hello")]
        assert request.HasField("temperature"), "0 is a choice"
        assert not request.HasField("seed"), "None is none"

    def test_a_bare_uuid_is_a_task_and_a_word_a_base_model(self, platform, client):
        task = "6f2b8a54-1c1d-4b0e-9b8f-0a1b2c3d4e5f"
        for model in (task, "tiny", "artifacts/1"):
            client.chat(model, "x")
        assert [request.model for request in platform.inference.asked] == [f"tasks/{task}", "baseModels/tiny", "artifacts/1"]

    def test_a_streamed_answer_comes_in_pieces(self, client):
        pieces = list(client.stream_chat("tiny", [{"role": "user", "content": "you"}]))
        assert "".join(piece.delta for piece in pieces) == "echo you"
        assert pieces[-1].usage.completion_tokens == 2

    def test_several_models_answer_in_one_stream(self, platform, client):
        pieces = list(client.compare_chat(["tiny", "artifacts/1"], "you", system="s", logit_bias={3: -1.0}, top_k=None))
        answers = ["".join(piece.delta for piece in pieces if piece.index == index) for index in (0, 1)]
        assert answers == ["echo you by baseModels/tiny", "echo you by artifacts/1"]
        (request,) = platform.inference.asked
        assert (dict(request.logit_bias), request.HasField("top_k")) == ({3: -1.0}, False)

    def test_a_model_that_fails_beside_others_has_its_error_in_its_part(self, platform, client):
        platform.inference.compare_script = one_fails
        parts = list(client.compare_chat(["tiny", "tasks/t1"], "you"))
        assert [(part.index, part.delta or part.error.reason) for part in parts] == [(1, "BASE_MODEL_NOT_FOUND"), (0, "fine")]


def test_a_service_that_is_not_there_is_named_with_its_address_and_the_way_out():
    address = f"127.0.0.1:{pick_free(1)[0]}"
    with Client(task_manager=address) as client, pytest.raises(Unreachable) as caught:
        client.get_task("1")
    assert caught.value.message == f"task_manager does not answer at {address}"
    assert "tunesmith up" in caught.value.hint


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    import tunesmith

    with pytest.raises(AttributeError):
        tunesmith.nothing  # noqa: B018


def test_every_error_is_one_kind():
    assert issubclass(Unreachable, TunesmithError)
