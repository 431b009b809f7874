"""Every command against scripted services: what it prints where, and its exit code."""

import json

import grpc
import pytest
from fake_platform import NOW, a_run, one_fails
from typer.testing import CliRunner

from tunesmith.cli.app import app
from tunesmith.v1.artifact_pb2 import Artifact
from tunesmith.v1.artifact_service_pb2 import ArtifactNotice, SweepArtifactsResponse
from tunesmith.v1.base_model_pb2 import BaseModel
from tunesmith.v1.inference_service_pb2 import AnswerError, CompareChatResponse
from tunesmith.v1.task_error_pb2 import TaskError
from tunesmith.v1.task_event_pb2 import TaskEvent
from tunesmith.v1.task_pb2 import Task


@pytest.fixture
def run(platform):
    """Run the command; answers with exit_code, stdout, stderr."""
    return lambda *arguments, **options: CliRunner().invoke(app, [str(a) for a in arguments], **options)


@pytest.fixture
def train(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"messages": []}\n' * 3)
    return path


@pytest.fixture
def bad(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"messages": [{"role": "assistent"}]}\n')
    return path


def json_lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


class TestData:
    def test_upload_shows_the_dataset_and_the_next_command(self, run, train):
        result = run("data", "upload", train)
        assert result.exit_code == 0
        assert "3 examples" in result.stdout
        assert "tunesmith task create --data" in result.stderr

    def test_upload_as_json_is_one_object_with_the_protos_own_names(self, run, train):
        content = json.loads(run("data", "upload", train, "--name", "mine", "--json").stdout)
        assert content["display_name"] == "mine"
        assert content["statistics"]["example_count"] == "3"

    def test_a_refused_upload_lists_its_rows(self, run, bad):
        result = run("data", "upload", bad)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert result.stderr.splitlines() == [
            "error[DATASET_INVALID]: 1 row is bad",
            '  - line 1: messages[1].role: role "assistent" is not known',
            "  hint: Mend the rows.",
        ]

    def test_with_json_the_error_is_an_object_on_stderr(self, run, bad):
        error = json.loads(run("data", "upload", bad, "--json").stderr)["error"]
        assert (error["reason"], error["class"], error["hint"]) == ("DATASET_INVALID", "user", "Mend the rows.")
        assert error["violations"][0]["field"] == "line 1: messages[1].role"

    def test_ls_is_a_table_or_one_object_a_line(self, run, train):
        for _ in range(3):
            run("data", "upload", train)
        table = run("data", "ls").stdout.splitlines()
        assert table[0].split() == ["ID", "NAME", "VERSION", "FORMAT", "EXAMPLES", "SIZE", "CREATED"]
        assert len(table) == 4
        assert [d["display_name"] for d in json_lines(run("data", "ls", "--json").stdout)] == ["train.jsonl"] * 3

    def test_an_empty_list_says_what_to_do(self, run):
        result = run("data", "ls")
        assert (result.exit_code, result.stdout) == (0, "")
        assert "tunesmith data upload" in result.stderr

    def test_show_finds_by_bare_id(self, run, train):
        name = json.loads(run("data", "upload", train, "--json").stdout)["name"]
        assert name in run("data", "show", name.split("/")[1]).stdout

    def test_show_of_nothing_fails(self, run):
        assert run("data", "show", "missing").exit_code == 1


class TestTaskCreate:
    def test_a_file_is_uploaded_first(self, run, platform, train):
        result = run("task", "create", "--data", train, "--set", "lora.rank=8", "--set", "learning_rate=1e-4")
        assert result.exit_code == 0, result.stderr
        task = platform.tasks.created[0].task
        assert task.spec.fine_tuning.dataset == platform.datasets.stored[0].name
        assert task.spec.fine_tuning.hyperparameters.lora.rank == 8
        assert task.display_name == "train"
        assert result.stdout == platform.tasks.stored[0].name + "\n"
        assert "tunesmith task watch" in result.stderr

    def test_a_dataset_is_named(self, run, platform):
        run("task", "create", "--data", "d1", "--validation-data", "datasets/d2", "--name", "n", "--model", "tiny")
        spec = platform.tasks.created[0].task.spec.fine_tuning
        assert (spec.dataset, spec.validation_dataset, spec.base_model) == ("datasets/d1", "datasets/d2", "baseModels/tiny")

    def test_an_unknown_hyperparameter_is_a_usage_error_with_a_suggestion(self, run, platform):
        result = run("task", "create", "--data", "d", "--set", "learnig_rate=1")
        assert result.exit_code == 2
        assert "Did you mean learning_rate?" in result.stderr
        assert platform.tasks.created == []

    def test_an_unknown_option_is_a_usage_error(self, run):
        assert run("task", "create", "--dat", "d").exit_code == 2

    def test_neither_data_nor_file_is_a_usage_error(self, run):
        assert run("task", "create").exit_code == 2

    def test_a_dry_run_shows_the_plan_and_creates_nothing(self, run, platform):
        result = run("task", "create", "--data", "d", "--dry-run")
        assert "40 steps over 320 examples" in result.stdout
        assert "lora.rank=16" in result.stdout
        assert "few examples" in result.stderr
        assert platform.tasks.created == []

    def test_a_dry_run_tells_tokens_time_memory_and_what_cannot_be_served(self, run, platform):
        lines = run("task", "create", "--data", "d", "--validation-split", 0.1, "--dry-run").stdout.splitlines()
        assert lines[0] == "40 steps over 320 examples, 32 more held out"
        told = dict(line.split("  ", 1) for line in lines[1:])
        assert told["tokens"].strip() == "51,200 a pass, 12,800 carry loss (25.0 %)"
        assert told["time"].strip() == "about 12:05, from earlier runs of this model here"
        assert told["memory"].strip() == "3.2 GB at the peak"
        assert told["serving"].strip() == "not possible: rank 512 is more than 64"

    def test_several_datasets_are_a_mixture_by_weight(self, run, platform, train):
        result = run("task", "create", "--data", "d1:2", "--data", f"{train}:0.5", "--data", "d3", "--validation-split", "0.2")
        assert result.exit_code == 0, result.stderr
        task = platform.tasks.created[0].task
        uploaded = platform.datasets.stored[0].name
        found = [(part.dataset, part.weight, part.HasField("weight")) for part in task.spec.fine_tuning.mixture]
        assert found == [("datasets/d1", 2.0, True), (uploaded, 0.5, True), ("datasets/d3", 0.0, False)]
        assert (task.spec.fine_tuning.dataset, task.spec.fine_tuning.validation_split_ratio) == ("", 0.2)
        assert task.display_name == "d1"

    @pytest.mark.parametrize(
        "options",
        [
            ["--data", "d:2"],
            ["--data", "d:0", "--data", "e"],
            ["--data", "d:101", "--data", "e"],
            ["--data", "d:much", "--data", "e"],
            ["--data", ":1", "--data", "e"],
            ["--data", "d", "--validation-data", "v", "--validation-split", "0.1"],
            ["--data", "d", "--method", "magic"],
        ],
    )
    def test_data_that_makes_no_sense_is_a_usage_error_before_anything_is_uploaded(self, run, platform, options):
        assert run("task", "create", *options).exit_code == 2
        assert (platform.tasks.created, platform.datasets.uploads) == ([], [])

    def test_options_override_the_file(self, run, platform, tmp_path):
        path = tmp_path / "task.yaml"
        path.write_text(
            "display_name: n\ndescription: old\nspec:\n  fine_tuning:\n    base_model: tiny\n"
            "    mixture: [{dataset: a}, {dataset: b}]\n    validation_split_ratio: 0.1\n"
        )
        run("task", "create", "-f", path)
        overriding = ["--model", "big", "--description", "new", "--data", "d", "--validation-data", "v", "--name", "m"]
        run("task", "create", "-f", path, *overriding)
        kept, changed = (request.task for request in platform.tasks.created)
        assert (kept.display_name, kept.description, kept.spec.fine_tuning.base_model) == ("n", "old", "tiny")
        assert len(kept.spec.fine_tuning.mixture) == 2
        assert (changed.display_name, changed.description) == ("m", "new")
        spec = changed.spec.fine_tuning
        assert (spec.base_model, spec.dataset, spec.validation_dataset) == ("baseModels/big", "datasets/d", "datasets/v")
        assert (len(spec.mixture), spec.HasField("validation_split_ratio")) == (0, False)

    def test_prompts_replace_those_of_the_file(self, run, platform, tmp_path):
        path = tmp_path / "task.json"
        path.write_text('{"display_name": "n", "spec": {"fine_tuning": {"dataset": "d", "sample_prompts": ["old"]}}}')
        run("task", "create", "-f", path)
        run("task", "create", "-f", path, "--sample", "one", "--sample", "two")
        prompts = [list(request.task.spec.fine_tuning.sample_prompts) for request in platform.tasks.created]
        assert prompts == [["old"], ["one", "two"]]

    def test_a_split_replaces_the_validation_data_of_the_file(self, run, platform, tmp_path):
        path = tmp_path / "task.json"
        path.write_text('{"display_name": "n", "spec": {"fine_tuning": {"dataset": "d", "validation_dataset": "v"}}}')
        run("task", "create", "-f", path, "--validation-split", "0.3")
        spec = platform.tasks.created[0].task.spec.fine_tuning
        assert (spec.validation_dataset, spec.validation_split_ratio) == ("", 0.3)

    @pytest.mark.parametrize(
        "text",
        [
            '{"display_name": "n", "spec": {"fine_tuning": {"base_model": "tiny", "dataset": "d", "method": "SFT"}}}',
            "display_name: n\nspec:\n  fine_tuning:\n    base_model: tiny\n    dataset: d\n    method: SFT\n",
        ],
    )
    def test_a_whole_task_comes_from_a_file(self, run, platform, tmp_path, text):
        path = tmp_path / "task.yaml"
        path.write_text(text)
        result = run("task", "create", "-f", path, "--set", "seed=7")
        assert result.exit_code == 0, result.stderr
        task = platform.tasks.created[0].task
        assert (task.display_name, task.spec.fine_tuning.dataset, task.spec.fine_tuning.hyperparameters.seed) == ("n", "d", 7)

    @pytest.mark.parametrize("text", ['{"display_nam": "n"}', "[1]", "a: [", "just words"])
    def test_a_file_that_is_no_task_is_a_usage_error(self, run, tmp_path, text):
        path = tmp_path / "task.yaml"
        path.write_text(text)
        result = run("task", "create", "-f", path)
        assert result.exit_code == 2
        assert "error[TASK_FILE_INVALID]" in result.stderr

    def test_create_and_watch_exits_as_the_task_ends(self, run):
        result = run("task", "create", "--data", "d", "--watch", "--json")
        created, *events = json_lines(result.stdout)
        assert created["state"] == "QUEUED"
        assert [int(event["sequence"]) for event in events] == list(range(1, 10))
        assert result.exit_code == 0


class TestTaskWatch:
    def test_elsewhere_than_on_a_terminal_points_are_lines_and_the_rest_is_talk(self, run, platform):
        task = platform.tasks.add(events=a_run())
        result = run("task", "watch", task.name)
        assert result.exit_code == 0
        assert result.stdout.splitlines()[0] == "step 1 loss=3 tokens_per_second=100"
        assert len(result.stdout.splitlines()) == 3
        assert "[rank 1] careful" in result.stderr
        assert "all is well" not in result.stderr
        assert "succeeded: artifacts/made" in result.stderr

    def test_it_survives_a_task_manager_that_goes_away(self, run, platform):
        task = platform.tasks.add(events=a_run(steps=5))
        platform.tasks.break_after = [4, 2, 3]
        result = run("task", "watch", task.name, "--json")
        assert [int(event["sequence"]) for event in json_lines(result.stdout)] == list(range(1, 12))
        assert result.exit_code == 0

    def test_after_resumes(self, run, platform):
        task = platform.tasks.add(events=a_run())
        result = run("task", "watch", task.name, "--after", 7, "--json")
        assert [int(event["sequence"]) for event in json_lines(result.stdout)] == [8, 9]

    def test_a_failed_task_is_exit_code_3_with_its_error(self, run, platform):
        error = TaskError(reason="LOSS_NOT_FINITE", message="loss became NaN at step 2", hint="Lower the learning rate.")
        task = platform.tasks.add(events=a_run(ending=Task.FAILED, error=error))
        result = run("task", "watch", task.name)
        assert result.exit_code == 3
        assert "error[LOSS_NOT_FINITE]: loss became NaN at step 2\n  hint: Lower the learning rate." in result.stderr

    def test_a_cancelled_task_is_exit_code_3(self, run, platform):
        task = platform.tasks.add(events=a_run(ending=Task.CANCELLED))
        assert run("task", "watch", task.name).exit_code == 3

    def test_ctrl_c_detaches_and_says_how_to_come_back(self, run, platform, monkeypatch):
        task = platform.tasks.add(events=a_run())

        def interrupt(line):
            if "step 2" in line:
                raise KeyboardInterrupt

        monkeypatch.setattr("tunesmith.cli.task_watch.print", lambda line, **_: interrupt(line), raising=False)
        result = run("task", "watch", task.name)
        assert result.exit_code == 130
        assert f"tunesmith task watch {task.name.split('/')[1]} --after 7" in result.stderr


class TestTaskRest:
    def test_diff_shows_what_differs_and_what_nobody_knows(self, run, platform):
        first, second = platform.tasks.add(), platform.tasks.add()
        second.display_name = "other"
        result = run("task", "diff", first.name, second.name)
        assert result.stdout.splitlines()[-1].split() == ["spec", "display_name", "first", "other"]
        assert "data and versions cannot be compared" in result.stderr
        assert json.loads(run("task", "diff", first.name, second.name, "--json").stdout)["differences"][0]["second"] == "other"

    def test_diff_of_equal_tasks_says_so(self, run, platform):
        result = run("task", "diff", platform.tasks.add().name, platform.tasks.add().name)
        assert "nothing differs" in result.stdout + result.stderr

    def test_rm_deletes_an_ended_task_and_refuses_others(self, run, platform):
        ended, running = platform.tasks.add(), platform.tasks.add(Task.RUNNING)
        assert "is deleted" in run("task", "rm", ended.name).stderr
        assert run("task", "rm", running.name).exit_code == 1
        assert platform.tasks.stored == [running]

    def test_queueing_options_reach_the_task(self, run, platform):
        run("task", "create", "--data", "d", "--priority", 3, "--not-before", "2030-01-02T03:04:05", "--max-attempts", 2)
        created = platform.tasks.created[-1].task
        assert (created.priority, created.max_attempts) == (3, 2)
        assert created.HasField("not_before_time")

    def test_who_asks_is_an_option_or_a_setting_and_tasks_are_found_by_it(self, run, platform, monkeypatch):
        run("task", "create", "--data", "d", "--creator", "ann")
        monkeypatch.setenv("TUNESMITH_CREATOR", "nightly job")
        run("task", "create", "--data", "d")
        assert [request.task.creator for request in platform.tasks.created[-2:]] == ["ann", "nightly job"]
        shown = run("task", "show", platform.tasks.add(creator="ann").name).stdout
        assert shown.partition("asked for by")[2].split()[0] == "ann"
        assert len(json_lines(run("task", "ls", "--creator", "ann", "--json").stdout)) == 2
        assert json_lines(run("task", "ls", "--creator", "nobody", "--json").stdout) == []

    def test_show_tells_the_history(self, run, platform):
        task = platform.tasks.add()
        task.transitions.add(to_state=Task.QUEUED, reason="the task was created")
        assert "QUEUED: the task was created" in run("task", "show", task.name).stdout

    def test_ls_filters_and_shows_progress(self, run, platform):
        running = platform.tasks.add(Task.RUNNING)
        running.progress.step, running.progress.total_steps = 3, 9
        platform.tasks.add(Task.FAILED, error=TaskError(reason="OUT_OF_MEMORY"))
        output = run("task", "ls").stdout
        assert "step 3/9" in output
        assert "OUT_OF_MEMORY" in output
        assert [t["state"] for t in json_lines(run("task", "ls", "--state", "running", "--json").stdout)] == ["RUNNING"]

    def test_an_unknown_state_is_a_usage_error(self, run):
        assert run("task", "ls", "--state", "sleeping").exit_code == 2

    def test_ls_by_label_text_and_method(self, run, platform):
        platform.tasks.add(labels={"team": "a"}, description="nightly")
        platform.tasks.add(labels={"team": "b"})
        found = json_lines(run("task", "ls", "--label", "team=a", "--text", "NIGHT", "--json").stdout)
        assert [task["labels"] for task in found] == [{"team": "a"}]
        assert json_lines(run("task", "ls", "--method", "dpo", "--json").stdout) == []
        assert run("task", "ls", "--label", "team").exit_code == 2

    def test_ls_counts_by_state(self, run, platform):
        for state in (Task.RUNNING, Task.FAILED, Task.RUNNING):
            platform.tasks.add(state)
        assert json.loads(run("task", "ls", "--totals", "--json").stdout) == {"RUNNING": 2, "FAILED": 1}
        assert [line.split() for line in run("task", "ls", "--totals", "--state", "failed").stdout.splitlines()[1:]] == [
            ["FAILED", "1"]
        ]

    def test_ls_never_pretends_to_have_counted_to_the_end(self, run, platform):
        for state in (Task.RUNNING, Task.FAILED, Task.RUNNING):
            platform.tasks.add(state)
        platform.tasks.counts_to = 1
        told = json.loads(run("task", "ls", "--totals", "--json").stdout)
        assert told == {"RUNNING": 1, "FAILED": 1, "at_least": ["RUNNING"]}
        assert [line.split() for line in run("task", "ls", "--totals").stdout.splitlines()[1:]] == [
            ["RUNNING", "1+"],
            ["FAILED", "1"],
        ]

    def test_ls_shows_tasks_as_they_change(self, run, platform):
        task = platform.tasks.add(Task.RUNNING)
        platform.tasks.changes = [[(1, None), (2, task)]]
        result = run("task", "ls", "--watch")
        assert result.stdout.split()[:3] == [task.name.removeprefix("tasks/"), "first", "RUNNING"]
        assert "the server is stopping" in result.stderr

    def test_update_changes_what_is_given(self, run, platform):
        task = platform.tasks.add(description="d", labels={"team": "a"})
        assert "is called 'new'" in run("task", "update", task.name, "--name", "new").stdout
        changed = json.loads(run("task", "update", task.name, "--label", "a=b=c", "--label", "d=", "--json").stdout)
        assert (changed["display_name"], changed["description"], changed["labels"]) == ("new", "d", {"a": "b=c", "d": ""})
        assert "labels" not in json.loads(run("task", "update", task.name, "--no-labels", "--json").stdout)

    def test_show_shows_what_is_set(self, run, platform):
        strange = TaskEvent(sequence=1, anomaly={"reason": "LOSS_SPIKE", "message": "up", "suggestion": "Do."})
        sample = TaskEvent(sequence=2, sample_generated={"step": 4, "prompt": "p", "text": "t"})
        error = TaskError(reason="R", message="m", hint="h")
        task = platform.tasks.add(Task.FAILED, [strange, sample], error=error)
        output = run("task", "show", task.name).stdout
        assert "FAILED" in output
        assert "R: m" in output
        assert "hint: h" in output
        assert output.endswith("LOSS_SPIKE: up\n  hint: Do.\nsample after step 4: p -> t\n")
        assert json.loads(run("task", "show", task.name, "--json").stdout)["error"]["reason"] == "R"

    def test_cancel_says_the_new_state(self, run, platform):
        task = platform.tasks.add(Task.RUNNING)
        assert run("task", "cancel", task.name, "--reason", "enough").stdout == f"{task.name} is CANCELLED\n"

    def test_logs_are_filtered_by_level_and_rank(self, run, platform):
        task = platform.tasks.add(events=a_run())
        everything = run("task", "logs", task.name).stdout.splitlines()
        assert everything[0].endswith("all is well")
        assert len(everything) == 2
        for options in (["--level", "warning"], ["--rank", "1"], ["-f", "--level", "warning"]):
            lines = run("task", "logs", task.name, *options).stdout.splitlines()
            assert len(lines) == 1
            assert lines[0].endswith("rank 1  WARNING careful")

    def test_logs_as_json_are_log_lines_followed_or_not(self, run, platform):
        task = platform.tasks.add(events=a_run())
        so_far = json_lines(run("task", "logs", task.name, "--json").stdout)
        followed = json_lines(run("task", "logs", task.name, "-f", "--json").stdout)
        assert [line["entry"]["text"] for line in so_far] == ["all is well", "careful"]
        assert [line["sequence"] for line in so_far] == [line["sequence"] for line in followed]

    def test_logs_are_searched_by_the_server(self, run, platform):
        task = platform.tasks.add(events=a_run())
        for options in (("--contains", "careful"), ("--grep", "^c.*l$"), ("--grep", "^c.*l$", "-f")):
            (line,) = run("task", "logs", task.name, *options).stdout.splitlines()
            assert line.endswith("careful")

    def test_an_unknown_level_is_a_usage_error(self, run):
        assert run("task", "logs", "1", "--level", "loud").exit_code == 2

    def test_metrics_are_curves_or_points(self, run, platform):
        task = platform.tasks.add(events=a_run(steps=30))
        curves = run("task", "metrics", task.name).stdout.splitlines()
        assert curves[0].split() == ["METRIC", "FIRST", "LAST", "LEAST", "MOST", "POINTS", "CURVE"]
        assert curves[1].split()[:3] == ["loss", "3", "0.1"]
        points = run("task", "metrics", task.name, "--metric", "loss").stdout.splitlines()
        assert points[0].split() == ["STEP", "LOSS", "AFTER"]
        assert points[-1].split()[0] == "30"
        lines = json_lines(run("task", "metrics", task.name, "--json").stdout)
        assert [line["step"] for line in lines] == [str(step) for step in range(1, 31)]
        assert lines[0]["values"]["loss"] == 3

    def test_metrics_can_be_followed(self, run, platform):
        task = platform.tasks.add(events=a_run())
        assert [p["step"] for p in json_lines(run("task", "metrics", task.name, "-f", "--json").stdout)] == ["1", "2", "3"]


class TestModels:
    @pytest.fixture(autouse=True)
    def tiny(self, platform):
        model = BaseModel(name="baseModels/tiny", display_name="Tiny", parameter_count=7_000_000, context_length=128)
        platform.models.stored[model.name] = model

    def test_ls_and_show(self, run):
        assert run("model", "ls").stdout.splitlines()[1].split()[:4] == ["tiny", "Tiny", "7", "M"]
        assert "128 tokens" in run("model", "show", "tiny").stdout
        assert json.loads(run("model", "show", "tiny", "--json").stdout)["context_length"] == "128"

    def test_chat_answers_once(self, run, platform):
        result = run(
            "model", "chat", "tiny", "--message", "you", "--system", "s", "--temperature", 0, "--max-tokens", 5, "--seed", 3
        )
        assert result.stdout == "echo you\n"
        asked = platform.inference.asked[0]
        assert (asked.messages[0].content, asked.max_tokens, asked.seed) == ("s", 5, 3)
        assert asked.HasField("temperature")
        assert not asked.HasField("top_p")

    def test_chat_as_json_is_the_whole_answer(self, run):
        assert json.loads(run("model", "chat", "tiny", "-m", "you", "--json").stdout)["message"]["content"] == "echo you"

    def test_without_a_message_it_is_a_conversation_that_remembers(self, run, platform):
        result = run("model", "chat", "tiny", input="one\n\ntwo\n")
        assert result.exit_code == 0
        assert result.stdout == "echo one\necho two\n"
        turns = [(m.role, m.content) for m in platform.inference.asked[1].messages]
        assert turns == [("user", "one"), ("assistant", "echo one"), ("user", "two")]

    def test_every_sampling_option_is_sent(self, run, platform):
        penalties = ("--frequency-penalty", 0.5, "--presence-penalty", -0.5, "--repetition-penalty", 1.25)
        run("model", "chat", "tiny", "-m", "you", "--top-k", 4, "--min-p", 0.25, *penalties, "--stop", "a", "--stop", "b")
        asked = platform.inference.asked[0]
        assert (asked.top_k, asked.min_p, list(asked.stop)) == (4, 0.25, ["a", "b"])
        assert (asked.frequency_penalty, asked.presence_penalty, asked.repetition_penalty) == (0.5, -0.5, 1.25)

    def test_compare_prints_every_models_answer(self, run, platform):
        asking = ("model", "chat", "tiny", "--compare", "tasks/t1", "-m", "you", "--top-k", 3)
        assert run(*asking).stdout == "tiny\n  echo you by baseModels/tiny\ntasks/t1\n  echo you by tasks/t1\n"
        ended = {"finish_reason": "FINISH_REASON_STOP", "usage": {"completion_tokens": 2}}
        assert json_lines(run(*asking, "--json").stdout)[1] == {"model": "tasks/t1", "answer": "echo you by tasks/t1", **ended}
        assert [asked.top_k for asked in platform.inference.asked] == [3, 3]

    def test_a_conversation_beside_others_goes_on_with_the_first_models_answer(self, run, platform):
        for asking in (("chat", "tiny", "--compare", "tasks/t1"), ("compare", "tiny", "tasks/t1")):
            platform.inference.asked.clear()
            result = run("model", *asking, input="one\ntwo\n")
            assert result.stdout.startswith("tiny\n  echo one by baseModels/tiny\ntasks/t1\n  echo one by tasks/t1\ntiny\n")
            turns = [(turn.role, turn.content) for turn in platform.inference.asked[1].messages]
            assert turns == [("user", "one"), ("assistant", "echo one by baseModels/tiny"), ("user", "two")]

    def test_models_are_compared_in_a_command_of_their_own(self, run, platform):
        asking = ("model", "compare", "tiny", "tasks/t1@step-4", "-m", "you", "--seed", 3)
        assert run(*asking).stdout == "tiny\n  echo you by baseModels/tiny\ntasks/t1@step-4\n  echo you by tasks/t1@step-4\n"
        assert [line["model"] for line in json_lines(run(*asking, "--json").stdout)] == ["tiny", "tasks/t1@step-4"]
        assert [asked.seed for asked in platform.inference.asked] == [3, 3]

    def test_a_model_that_fails_beside_others_has_its_error_in_its_place_and_the_command_fails(self, run, platform):
        platform.inference.compare_script = one_fails
        asking = ("model", "compare", "tiny", "nil", "-m", "you")
        result = run(*asking)
        told = "  error[BASE_MODEL_NOT_FOUND]: baseModels/nil does not exist\n  hint: Look.\n"
        assert (result.stdout, result.exit_code) == (f"tiny\n  fine\nnil\n{told}", 1)
        result = run(*asking, "--json")
        error = {"reason": "BASE_MODEL_NOT_FOUND", "message": "baseModels/nil does not exist", "error_class": "ERROR_CLASS_USER"}
        fine, failed = json_lines(result.stdout)
        assert fine == {"model": "tiny", "answer": "fine", "finish_reason": "FINISH_REASON_STOP"}
        ended = {"finish_reason": "FINISH_REASON_FAILED", "error": error | {"hint": "Look."}}
        assert failed == {"model": "nil", "answer": "", **ended}
        assert result.exit_code == 1

    def test_when_all_compared_models_fail_each_is_told_once(self, run, platform):
        def script(request, context):
            for index, delta in ((1, ""), (0, "half a ")):
                error = AnswerError(reason="ENGINE_CRASHED", message=f"model {index}", hint="Again.")
                yield CompareChatResponse(index=index, delta=delta, finish_reason=480, error=error)
            context.abort(grpc.StatusCode.INTERNAL, "model 0")

        platform.inference.compare_script = script
        result = run("model", "compare", "tiny", "nil", "-m", "you")
        told = "error[ENGINE_CRASHED]: model {}\n  hint: Again.\n"
        assert result.stdout == f"tiny\n  half a \n  {told.format(0)}nil\n  {told.format(1)}"
        assert (result.stderr, result.exit_code) == ("", 1)

    def test_a_conversation_goes_on_when_another_than_the_first_model_fails(self, run, platform):
        platform.inference.compare_script = one_fails
        result = run("model", "compare", "tiny", "nil", input="one\ntwo\n")
        assert (result.stdout.count("fine"), result.stdout.count("error["), result.exit_code) == (2, 2, 0)
        turns = [(turn.role, turn.content) for turn in platform.inference.asked[1].messages]
        assert turns == [("user", "one"), ("assistant", "fine"), ("user", "two")]

    def test_a_conversation_from_a_file_ends_where_the_first_model_fails(self, run, platform):
        def script(request, context):
            error = AnswerError(reason="ENGINE_CRASHED", message="gone", hint="Again.")
            yield CompareChatResponse(index=0, finish_reason=480, error=error)
            yield CompareChatResponse(index=1, delta="fine", finish_reason=1)

        platform.inference.compare_script = script
        result = run("model", "compare", "tiny", "nil", input="one\ntwo\n")
        assert (len(platform.inference.asked), result.exit_code) == (1, 1)
        assert "error[ENGINE_CRASHED]: gone" in result.stdout

    def test_a_comparison_needs_two_models_and_json_a_message(self, run):
        assert run("model", "compare", "tiny", "-m", "you").exit_code == 2
        assert run("model", "compare", "tiny", "tiny", "--json").exit_code == 2

    def test_a_schema_and_an_expression_are_sent_but_not_both(self, run, platform, tmp_path):
        schema = tmp_path / "schema.json"
        schema.write_text('{"type": "object"}')
        run("model", "chat", "tiny", "-m", "you", "--json-schema", schema)
        run("model", "chat", "tiny", "-m", "you", "--regex", "yes|no")
        formats = [asked.response_format for asked in platform.inference.asked]
        assert [(each.json_schema, each.regex) for each in formats] == [('{"type": "object"}', ""), ("", "yes|no")]
        assert run("model", "chat", "tiny", "-m", "you", "--json-schema", schema, "--regex", "a").exit_code == 2

    def test_json_without_a_message_is_a_usage_error(self, run):
        assert run("model", "chat", "tiny", "--json").exit_code == 2


class TestArtifacts:
    def test_ls_says_how_long_an_artifact_is_kept(self, run, platform):
        from datetime import UTC, datetime, timedelta

        from google.protobuf.timestamp_pb2 import Timestamp

        expiry = Timestamp()
        expiry.FromDatetime(datetime.now(UTC) + timedelta(days=15))
        platform.artifacts.add({"a": b"1"}, task="tasks/t1", expire_time=expiry)
        assert "expires in 15 d" in run("artifact", "ls").stdout
        assert json_lines(run("artifact", "ls", "--task", "t1", "--json").stdout)[0]["kind"] == "ADAPTER"

    def test_ls_of_one_kind(self, run, platform):
        names = [platform.artifacts.add({"a": b"1"}, kind=kind).name for kind in (Artifact.ADAPTER, Artifact.CHECKPOINT)]
        found = json_lines(run("artifact", "ls", "--kind", "checkpoint", "--json").stdout)
        assert [artifact["name"] for artifact in found] == names[1:]
        assert "no artifact is like that" in run("artifact", "ls", "--kind", "gguf").stderr
        assert run("artifact", "ls", "--kind", "picture").exit_code == 2

    def test_every_kind_of_the_contract_can_be_asked_for(self, run, platform):
        for name in Artifact.Kind.keys()[1:]:
            assert run("artifact", "ls", "--kind", name.lower()).exit_code == 0, name

    def test_show_lists_files(self, run, platform):
        artifact = platform.artifacts.add({"adapter.bin": b"1234"})
        assert "adapter.bin (4 B)" in run("artifact", "show", artifact.name).stdout

    def test_show_names_damaged_files(self, run, platform):
        artifact = platform.artifacts.add({"a": b"1"}, damaged_files=["adapter.bin"])
        assert "damaged" in run("artifact", "show", artifact.name).stdout

    def test_notices_are_told_from_a_number_on(self, run, platform):
        for number in (1, 2, 3):
            notice = ArtifactNotice(sequence=number, kind=ArtifactNotice.EXPIRING, artifact="artifacts/a", task="tasks/t")
            notice.days = 4 - number
            platform.artifacts.notices.append(notice)
        damaged = ArtifactNotice(sequence=4, kind=ArtifactNotice.DAMAGED, path="w", damage="its object is gone")
        platform.artifacts.notices.append(damaged)
        told = run("artifact", "notices").stdout
        assert "3 days left" in told
        assert "1 day left" in told
        assert "w is damaged: its object is gone" in told
        found = json_lines(run("artifact", "notices", "--after", "2", "--json").stdout)
        assert [notice["sequence"] for notice in found] == ["3", "4"]
        assert "nothing was announced" in run("artifact", "notices", "--after", "4").stderr

    def test_download_prints_the_paths(self, run, platform, tmp_path):
        artifact = platform.artifacts.add({"adapter.bin": b"1234"})
        result = run("artifact", "download", artifact.name, tmp_path / "out")
        assert result.stdout == f"{tmp_path / 'out' / 'adapter.bin'}\n"
        assert "1 files, checksums verified" in result.stderr
        content = json.loads(run("artifact", "download", artifact.name, tmp_path / "two", "--json").stdout)
        assert content["files"] == [str(tmp_path / "two" / "adapter.bin")]


class TestRetention:
    @pytest.fixture
    def artifact(self, platform):
        return platform.artifacts.add({"adapter.bin": b"1234"}, expire_time=NOW)

    @pytest.mark.parametrize(
        ("arguments", "field", "value"),
        [
            (["pin", "--reason", "champion"], "pinned", True),
            (["unpin", "-r", "beaten"], "reason", "beaten"),
            (["extend", "--days", 10, "-r", "review"], "expire_time", "2027-01-25T08:00:00Z"),
            (["restore"], "state", "AVAILABLE"),
        ],
    )
    def test_every_change_answers_with_the_artifact(self, run, artifact, arguments, field, value):
        verb, *options = arguments
        content = json.loads(run("artifact", verb, artifact.name, *options, "--json").stdout)
        assert content.get(field, False) == value
        assert run("artifact", verb, artifact.name, *options).stdout.startswith(f"{artifact.name} ")

    def test_pin_and_extend_ask_for_a_reason(self, run, artifact):
        assert run("artifact", "pin", artifact.name).exit_code == 2
        assert run("artifact", "extend", artifact.name, "--days", 1).exit_code == 2

    @pytest.mark.parametrize("days", ["0", "-1", "366", "1e12", "inf", "nan", "many"])
    def test_an_extension_by_days_that_cannot_be_is_a_usage_error(self, run, artifact, days):
        assert run("artifact", "extend", artifact.name, "-r", "x", "--days", days).exit_code == 2

    def test_sweep_says_what_it_did_or_would_do(self, run, artifact):
        assert run("artifact", "sweep", "--dry-run").stdout == f"{artifact.name} would expire\n"
        assert run("artifact", "sweep").stdout == f"{artifact.name} expired\n"
        assert json.loads(run("artifact", "sweep", "--json").stdout)["removed_object_count"] == "2"

    def test_sweep_tells_what_it_announces_and_that_there_is_more(self, run, platform):
        notice = SweepArtifactsResponse.Notice(artifact="artifacts/a", days=3, expire_time=NOW)
        platform.artifacts.swept = {"notices": [notice], "truncated": True}
        result = run("artifact", "sweep")
        assert result.stdout.startswith("artifacts/a 3 days left, expires ")
        assert "there is more to do" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        "registry alias mine best -1",
        "registry alias mine best 2147483648",
        "artifact notices --after -1",
        "artifact notices --after 9223372036854775808",
        "model ls --max-parameters 1e30",
        "model ls --max-parameters nan",
    ],
)
def test_a_number_that_the_contract_has_no_room_for_is_a_usage_error(run, command):
    assert run(*command.split()).exit_code == 2


class TestRegistry:
    @pytest.fixture
    def artifact(self, run, platform):
        artifact = platform.artifacts.add({"adapter.bin": b"1234"})
        self.exported = run("artifact", "export", artifact.name, "mine", "--alias", "champion", "-d", "answers mail")
        return artifact

    def test_export_prints_the_version_and_the_next_command(self, run, artifact):
        assert self.exported.stdout == "models/mine/versions/1\n"
        assert "tunesmith registry download" in self.exported.stderr
        content = json.loads(run("artifact", "export", artifact.name, "models/other", "--json").stdout)
        assert content["artifact"] == artifact.name

    def test_import_sends_every_file_and_finds_the_base_model(self, run, platform, tmp_path):
        (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct"}')
        (tmp_path / "adapter_model.safetensors").write_bytes(b"w" * 3)
        result = run("registry", "import", tmp_path, "--name", "mine", "--alias", "best")
        assert result.stdout == "models/mine/versions/1\n"
        assert "tunesmith model chat models/mine/versions/1" in result.stderr
        first, *rest = platform.models.imported
        assert (first.header.base_model, first.header.alias) == ("baseModels/smollm2-135m-instruct", "best")
        assert [message.path for message in rest if message.path] == ["adapter_config.json", "adapter_model.safetensors"]
        assert b"".join(message.chunk for message in rest).endswith(b"www")
        content = json.loads(run("registry", "import", tmp_path, "--name", "m", "--base-model", "other", "--json").stdout)
        assert content["manifest"]["base_model"] == "baseModels/other"

    def test_import_of_a_whole_model_names_no_base_model(self, run, platform, tmp_path):
        for broken in (None, "{", "[]", "{}"):
            if broken is not None:
                (tmp_path / "adapter_config.json").write_text(broken)
            assert run("registry", "import", tmp_path, "--name", "mine").exit_code == 0
            assert platform.models.imported[0].header.base_model == ""

    def test_import_from_a_place_of_the_server_sends_its_name_alone(self, run, platform):
        result = run(
            "registry", "import", "--name", "mine", "--from-server", "runs/best", "--base-model", "smollm2", "--alias", "a"
        )
        assert result.stdout == "models/mine/versions/1\n"
        request = platform.models.from_server
        assert (request.source.directory, request.source.WhichOneof("place")) == ("runs/best", "directory")
        assert (request.header.base_model, request.header.alias) == ("baseModels/smollm2", "a")
        assert run("registry", "import", "--name", "mine", "--from-s3", "runs").exit_code == 0
        assert platform.models.from_server.source.s3_prefix == "runs"

    @pytest.mark.parametrize("places", [[], ["--from-server", "a", "--from-s3", "b"], [".", "--from-server", "a"]], ids=len)
    @pytest.mark.parametrize("command", [("registry", "import", "--name"), ("model", "add", "--id")], ids=lambda names: names[0])
    def test_one_place_is_named(self, run, places, command):
        result = run(*command, "mine", *places)
        assert result.exit_code == 2
        assert "one of DIRECTORY, --from-server and --from-s3" in " ".join(result.stderr.replace("│", " ").split())

    def test_ls_and_show(self, run, artifact):
        assert "mine" in run("registry", "ls").stdout
        assert json_lines(run("registry", "ls", "--json").stdout)[0]["name"] == "models/mine"
        assert "answers mail" in run("registry", "show", "mine").stdout
        assert "adapter.bin (4 B)" in run("registry", "show", "mine@champion").stdout
        assert json.loads(run("registry", "show", "mine@1", "--json").stdout)["version"] == 1
        assert json.loads(run("registry", "show", "mine", "--json").stdout)["version_count"] == "1"

    def test_card_prints_the_readme_of_a_version(self, run, platform):
        artifact = platform.artifacts.add({"README.md": "# Größe\n".encode()})
        run("artifact", "export", artifact.name, "mine")
        assert run("registry", "card", "mine@1").stdout == "# Größe\n"
        assert json.loads(run("registry", "card", "mine", "--json").stdout) == {"card": "# Größe\n"}

    def test_alias_says_where_all_point(self, run, artifact):
        assert run("registry", "alias", "mine", "champion", 1).stdout == "models/mine champion → 1\n"
        assert json.loads(run("registry", "alias", "mine", "best", 1, "--json").stdout)["aliases"]["best"] == 1

    def test_download_verifies_and_prints_the_paths(self, run, artifact, tmp_path):
        result = run("registry", "download", "mine@champion", tmp_path / "out")
        assert result.stdout == f"{tmp_path / 'out' / 'adapter.bin'}\n"
        assert (tmp_path / "out" / "adapter.bin").read_bytes() == b"1234"
        content = json.loads(run("registry", "download", "mine", tmp_path / "two", "--json").stdout)
        assert content["files"] == [str(tmp_path / "two" / "adapter.bin")]

    def test_rm_deletes_one_version(self, run, artifact):
        assert "is deleted" in run("registry", "rm", "mine@1").stderr
        assert run("registry", "show", "mine").exit_code == 1


def test_an_unreachable_service_is_exit_code_5(run, monkeypatch):
    monkeypatch.setenv("TUNESMITH_TASK_MANAGER_ADDRESS", "127.0.0.1:1")
    result = run("task", "ls")
    assert result.exit_code == 5
    assert "error[UNREACHABLE]: task_manager does not answer at 127.0.0.1:1" in result.stderr


def test_version_is_one_line_or_an_object(run):
    number = json.loads(run("version", "--json").stdout)["version"]
    assert run("version").stdout == f"tunesmith {number}\n"


def test_status_of_nothing_is_exit_code_5(run):
    result = run("status")
    assert result.exit_code == 5
    assert "tunesmith up" in result.stderr


def test_down_of_nothing_is_fine(run):
    assert run("down").exit_code == 0


@pytest.mark.parametrize("value", ["storage", "storage=abc", "kitchen=1", "storage=70000"])
def test_a_wrong_port_option_is_a_usage_error(run, value):
    assert run("up", "--port", value).exit_code == 2


@pytest.mark.parametrize("noun", ["data", "task", "model", "artifact"])
def test_every_noun_helps(run, noun):
    assert run(noun, "--help").exit_code == 0
