"""What people read: every field that is set and none that is not, results on stdout and talk on stderr."""

import pytest
from fake_platform import NOW, a_run
from google.protobuf.timestamp_pb2 import Timestamp
from typer.testing import CliRunner

from tunesmith.cli.app import app
from tunesmith.cli.data_text import summary
from tunesmith.cli.output import print_fields, print_table, when
from tunesmith.v1.artifact_pb2 import Artifact
from tunesmith.v1.base_model_pb2 import BaseModel
from tunesmith.v1.dataset_pb2 import DatasetStatistics
from tunesmith.v1.evaluation_pb2 import EvaluationResult
from tunesmith.v1.task_event_pb2 import LogEntry, TaskEvent
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import FineTuning, TaskSpec


@pytest.fixture
def run(platform):
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def fields(text: str) -> dict[str, str]:
    """`name  value` lines; further lines of a value are joined by |."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith(" "):
            found[name] += "|" + line.strip()
        else:
            name, _, value = line.partition("  ")
            found[name] = value.strip()
    return found


class TestPrinting:
    def test_fields_are_aligned_and_those_without_a_value_left_out(self, capsys):
        print_fields([("a", "1"), ("longer", "2"), ("none", "")])
        assert capsys.readouterr().out == "a       1\nlonger  2\n"

    def test_further_lines_of_a_value_stand_below_the_first(self, capsys):
        print_fields([("files", "one\ntwo"), ("b", "3")])
        assert capsys.readouterr().out == "files  one\n       two\nb      3\n"

    def test_without_any_value_nothing_is_printed(self, capsys):
        print_fields([("a", "")])
        assert capsys.readouterr().out == ""

    def test_a_table_has_a_line_a_row_and_brackets_are_not_markup(self, capsys):
        print_table(["A", "B"], [("[red]x[/red]", "1"), ("y", "2")], "nothing")
        assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["A", "B"], ["[red]x[/red]", "1"], ["y", "2"]]

    def test_a_row_is_never_wrapped(self, capsys):
        print_table(["A", "B"], [("x" * 120, "y" * 100)], "nothing")
        assert len(capsys.readouterr().out.splitlines()) == 2

    def test_nothing_is_cut_where_no_terminal_is(self, capsys):
        print_table(["A", "B", "C"], [("x" * 300, "y" * 300, "z")], "nothing")
        assert capsys.readouterr().out.splitlines()[1].split() == ["x" * 300, "y" * 300, "z"]

    @pytest.mark.parametrize("columns", ["30", "200"])
    def test_a_table_that_is_too_wide_for_the_terminal_can_be_fields(self, monkeypatch, capsys, columns):
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", columns)
        rows = [("artifacts/11111111-2222", "0.900 ± 0.100", "x"), ("base", "0.500 ± 0.100", "")]
        print_table(["MODEL", "EXACT_MATCH", "C"], rows, "nothing", breaks=True)
        out = capsys.readouterr().out
        assert all(text in out for row in rows for text in row)
        fields = "MODEL        artifacts/11111111-2222\nEXACT_MATCH  0.900 ± 0.100\nC            x\n"
        assert out.startswith(fields) is (columns == "30")
        assert ("\n\nMODEL        base\nEXACT_MATCH  0.500 ± 0.100\n" in out) is (columns == "30")

    def test_without_rows_only_the_remark_is_said(self, capsys):
        print_table(["A"], [], "nothing yet")
        captured = capsys.readouterr()
        assert (captured.out, captured.err) == ("", "nothing yet\n")


class TestReports:
    @pytest.mark.parametrize(
        ("counts", "text"),
        [
            ({}, "0 examples, 0 messages"),
            ({"example_count": 1280, "message_count": 3000}, "1,280 examples, 3,000 messages"),
            ({"duplicate_count": 3}, "0 examples, 0 messages, 3 duplicates"),
            ({"without_system_count": 2000}, "0 examples, 0 messages, 2,000 without a system message"),
        ],
    )
    def test_a_summary_names_oddities_only_when_there_are_any(self, counts, text):
        assert summary(DatasetStatistics(**counts)) == text


class TestTasks:
    def test_a_task_shows_every_field_that_is_set(self, run, platform):
        task = platform.tasks.add(Task.RUNNING, description="why", state_reason="started", attempt=2, labels={"b": "2", "a": "1"})
        task.progress.step, task.progress.total_steps, task.progress.remaining.seconds = 3, 9, 125
        task.progress.metrics["loss"] = 1.25
        task.spec.fine_tuning.base_model, task.spec.fine_tuning.dataset = "baseModels/tiny", "datasets/d"
        task.effective_hyperparameters.lora.rank = 8
        shown = fields(run("task", "show", task.name).stdout)
        assert {key: shown[key] for key in ("state", "because", "progress", "remaining", "attempt", "labels", "numbers")} == {
            "state": "RUNNING",
            "because": "started",
            "progress": "step 3/9, loss 1.250",
            "remaining": "2:05",
            "attempt": "2",
            "labels": "a=1|b=2",
            "numbers": "lora.rank=8",
        }
        assert (shown["base model"], shown["dataset"], shown["description"]) == ("baseModels/tiny", "datasets/d", "why")

    def test_a_new_task_shows_nothing_of_what_has_not_happened(self, run, platform):
        shown = fields(run("task", "show", platform.tasks.add(Task.QUEUED, attempt=1).name).stdout)
        assert set(shown) == {"name", "called", "state", "kind", "method", "created"}

    def test_listed_tasks_can_be_of_several_states_in_any_case(self, run, platform):
        for state in (Task.QUEUED, Task.RUNNING, Task.FAILED):
            platform.tasks.add(state)
        lines = run("task", "ls", "--state", "Queued", "--state", "FAILED").stdout.splitlines()
        assert [line.split()[2:4] for line in lines[1:]] == [["fine-tuning", "QUEUED"], ["fine-tuning", "FAILED"]]

    def test_no_tasks_lead_to_the_first_one(self, run):
        result = run("task", "ls")
        assert (result.stdout, "tunesmith task create --data FILE" in result.stderr) == ("", True)

    def test_a_created_task_is_its_name_alone_on_stdout(self, run, platform):
        result = run("task", "create", "--data", "d")
        assert result.stdout == f"{platform.tasks.stored[0].name}\n"
        assert result.stderr == f"watch it: tunesmith task watch {platform.tasks.stored[0].name.removeprefix('tasks/')}\n"

    def test_watching_says_every_change_of_state_and_every_anomaly(self, run, platform):
        run_events = a_run(steps=1)
        run_events[3] = TaskEvent(sequence=4, anomaly={"reason": "LOSS_SPIKE", "message": "loss rose tenfold"})
        result = run("task", "watch", platform.tasks.add(events=run_events).name)
        assert result.stdout == "step 1 loss=3 tokens_per_second=100\n"
        assert result.stderr.splitlines()[:4] == [
            "QUEUED: created",
            "RUNNING: started",
            "LOSS_SPIKE: loss rose tenfold",
            "[rank 1] careful",
        ]

    def test_watching_says_what_is_saved_and_where_a_run_continues(self, run, platform):
        run_events = a_run(steps=1)
        run_events[2] = TaskEvent(sequence=3, training_started={"resumed_step": 7, "total_steps": 9})
        run_events[3] = TaskEvent(sequence=4, checkpoint_saved={"step": 8, "name": "step-8", "size_bytes": 5_590_000})
        result = run("task", "watch", platform.tasks.add(events=run_events).name)
        assert "continues behind step 7 of 9" in result.stderr.splitlines()
        assert "checkpoint of step 8 saved (5.6 MB)" in result.stderr.splitlines()

    def test_pausing_and_resuming_say_the_state(self, run, platform):
        running, paused = platform.tasks.add(Task.RUNNING).name, platform.tasks.add(Task.PAUSED).name
        assert run("task", "pause", running).stdout == f"{running} is PAUSING\n"
        assert run("task", "resume", paused).stdout == f"{paused} is QUEUED\n"

    def test_a_success_leads_to_the_first_conversation(self, run, platform):
        result = run("task", "watch", platform.tasks.add(events=a_run()).name)
        assert result.stderr.splitlines()[-2:] == [
            "succeeded: artifacts/made",
            "try it: tunesmith model chat artifacts/made",
        ]

    def test_a_success_leads_to_its_verdict_when_there_is_one_to_come(self, run, platform):
        task = platform.tasks.add(events=a_run(), evaluation_task="tasks/e")
        assert run("task", "watch", task.name).stderr.splitlines()[-2:] == [
            "try it: tunesmith model chat artifacts/made",
            f"whether it helped: tunesmith eval show {task.name}, once tasks/e is done",
        ]

    def test_a_classifier_is_not_offered_as_somebody_to_talk_to(self, run, platform):
        spec = TaskSpec(fine_tuning=FineTuning(method=FineTuning.CLASSIFICATION))
        task = platform.tasks.add(events=a_run(), spec=spec, evaluation_result=EvaluationResult(row_count=12))
        assert run("task", "watch", task.name).stderr.splitlines()[-3:] == [
            "succeeded: artifacts/made",
            "look at it: tunesmith artifact show artifacts/made",
            f"whether it helped: tunesmith eval show {task.name}",
        ]

    def test_a_cancelled_task_is_said_to_be(self, run, platform):
        result = run("task", "watch", platform.tasks.add(events=a_run(ending=Task.CANCELLED)).name)
        assert result.stderr.splitlines()[-1] == "cancelled"

    @pytest.mark.parametrize(("attempts", "said"), [(3, ""), (4, "no connection; reconnecting\n"), (5, "")])
    def test_only_a_lasting_interruption_is_mentioned_and_once(self, capsys, attempts, said):
        from tunesmith.cli.task_watch import _say_when_it_lasts

        _say_when_it_lasts(attempts)
        assert capsys.readouterr().err == said


class TestLogsAndMetrics:
    @pytest.mark.parametrize(
        ("entry", "ending"),
        [
            ({"severity": LogEntry.INFO, "rank": 0, "text": "hello"}, "rank 0  INFO    hello"),
            ({"severity": LogEntry.ERROR, "rank": 12, "text": "x"}, "rank 12 ERROR   x"),
            ({"severity": LogEntry.WARNING, "rank": -1, "text": "x"}, "trainer WARNING x"),
            ({"severity": LogEntry.DEBUG, "rank": 0, "text": "cut", "truncated": True}, "rank 0  DEBUG   cut …"),
            ({"severity": LogEntry.INFO, "rank": 0, "text": "loader.py:100: [bold]"}, "rank 0  INFO    loader.py:100: [bold]"),
        ],
    )
    def test_a_line_has_time_origin_severity_and_its_very_text(self, run, platform, entry, ending):
        task = platform.tasks.add(events=[TaskEvent(sequence=1, time=NOW, log_entry=entry)])
        line = run("task", "logs", task.name).stdout.rstrip("\n")
        assert line == f"{when(NOW)} {ending}"

    def test_several_ranks_can_be_asked_for_also_the_trainer_itself(self, run, platform):
        entries = [{"severity": LogEntry.INFO, "rank": rank, "text": f"of {rank}"} for rank in (-1, 0, 1, 2)]
        task = platform.tasks.add(events=[TaskEvent(sequence=n, log_entry=entry) for n, entry in enumerate(entries, 1)])
        lines = run("task", "logs", task.name, "--rank", "-1", "--rank", "2").stdout.splitlines()
        assert [line.rpartition(" of ")[2] for line in lines] == ["-1", "2"]

    def test_a_task_that_said_nothing_shows_nothing(self, run, platform):
        assert run("task", "logs", platform.tasks.add(events=[]).name).stdout == ""

    def test_nothing_measured_is_said(self, run, platform):
        result = run("task", "metrics", platform.tasks.add(events=[]).name)
        assert (result.stdout, result.stderr) == ("", "nothing was measured yet\n")

    def test_a_long_history_is_thinned_and_keeps_first_and_last(self, run, platform):
        task = platform.tasks.add(events=a_run(steps=95))
        steps = [line.split()[0] for line in run("task", "metrics", task.name, "--metric", "loss").stdout.splitlines()[1:]]
        assert len(steps) <= 21
        assert (steps[0], steps[-1]) == ("1", "95")

    def test_followed_points_are_lines_of_names_and_values(self, run, platform):
        task = platform.tasks.add(events=a_run(steps=2))
        assert run("task", "metrics", task.name, "-f").stdout == (
            "step 1 loss=3 tokens_per_second=100\nstep 2 loss=1.5 tokens_per_second=100\n"
        )


class TestModelsAndArtifacts:
    def test_a_model_shows_its_facts_and_files(self, run, platform):
        model = BaseModel(
            name="baseModels/tiny", parameter_count=134_515_008, context_length=8192, license="Apache-2.0", size_bytes=5
        )
        model.files.add(path="model.safetensors", size_bytes=1500)
        platform.models.stored[model.name] = model
        facts, tunings = run("model", "show", "tiny").stdout.split("\n\n")
        assert "sft" in tunings
        assert fields(facts) == {
            "name": "baseModels/tiny",
            "parameters": "134,515,008",
            "context": "8,192 tokens",
            "licence": "Apache-2.0",
            "conversations": "can learn them",
            "size": "5 B",
            "files": "model.safetensors (1.5 kB)",
        }

    def test_no_models_is_said(self, run):
        assert run("model", "ls").stderr == "no base models are registered\n"

    @pytest.mark.parametrize(("state", "word"), [(Artifact.EXPIRED, "expired"), (Artifact.UPLOADING, "uploading")])
    def test_an_artifact_that_is_not_available_says_why(self, run, platform, state, word):
        artifact = platform.artifacts.add({"a": b"1"})
        artifact.state = state
        assert run("artifact", "ls").stdout.splitlines()[1].split()[-1] == word
        assert fields(run("artifact", "show", artifact.name).stdout)["kept"].startswith(word)

    @pytest.mark.parametrize("state", [Artifact.AVAILABLE, Artifact.EXPIRED])
    def test_a_task_says_how_long_its_artifact_is_kept(self, run, platform, state):
        made = platform.artifacts.add({"a": b"1"}, expire_time=Timestamp(seconds=4_000_000_000))
        made.state = state
        task = platform.tasks.add(Task.SUCCEEDED, artifact=made.name)
        made.manifest.task = task.name
        shown = fields(run("task", "show", task.name).stdout)
        word = "expires in " if state == Artifact.AVAILABLE else "expired"
        assert (shown["artifact"], shown["kept"][: len(word)]) == (made.name, word)

    def test_an_artifact_says_where_it_came_from(self, run, platform):
        artifact = platform.artifacts.add({"a": b"1", "b": b"22"}, task="tasks/t", expire_time=Timestamp(seconds=4_000_000_000))
        manifest = artifact.manifest
        manifest.step, manifest.dataset_sha256 = 40, "abc"
        manifest.metrics["loss"] = 0.5
        manifest.versions["torch"] = "2"
        manifest.effective_hyperparameters.learning_rate = 1e-4
        shown = fields(run("artifact", "show", artifact.name).stdout)
        assert {
            key: shown[key] for key in ("kind", "task", "step", "base model", "data sha256", "metrics", "numbers", "versions")
        } == {
            "kind": "adapter",
            "task": "tasks/t",
            "step": "40",
            "base model": "baseModels/tiny",
            "data sha256": "abc",
            "metrics": "loss=0.5",
            "numbers": "learning_rate=0.0001",
            "versions": "torch 2",
        }
        assert shown["files"] == "a (1 B)|b (2 B)"

    def test_a_download_goes_by_default_to_a_directory_named_after_the_artifact(self, run, platform, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        artifact = platform.artifacts.add({"a": b"1"})
        identifier = artifact.name.removeprefix("artifacts/")
        assert run("artifact", "download", artifact.name).stdout == f"{identifier}/a\n"
        assert (tmp_path / identifier / "a").read_bytes() == b"1"
