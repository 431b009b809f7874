"""Tasks, hyperparameters and task files as text, and the line that shows a task at work."""

import json
import sys

import pytest
from google.protobuf.json_format import MessageToJson
from google.protobuf.timestamp_pb2 import Timestamp

from tunesmith.cli.task_file import read_task
from tunesmith.cli.task_text import error_text, hyperparameter_lines, progress_text, state_name, states_named
from tunesmith.cli.task_view import TaskView, metric_line
from tunesmith.errors import InvalidArgument
from tunesmith.hyperparameters import build, parse_settings
from tunesmith.tasks import describe_task
from tunesmith.v1.task_error_pb2 import TaskError
from tunesmith.v1.task_event_pb2 import StateChange, StepMetrics, TaskEvent, TrainingStarted
from tunesmith.v1.task_pb2 import Task, TaskProgress

STATES = {name: number for name, number in Task.State.items() if number}


@pytest.mark.parametrize("name", STATES)
def test_every_state_has_its_name_and_is_found_by_it_in_any_case(name):
    assert state_name(STATES[name]) == name
    assert states_named([name.lower(), name, name.title()]) == [STATES[name]] * 3


def test_a_state_this_client_does_not_know_stays_a_number():
    assert state_name(4711) == "4711"


def test_an_unknown_state_lists_the_known_and_unspecified_is_none_of_them():
    for word in ("asleep", "", "state_unspecified"):
        with pytest.raises(InvalidArgument) as caught:
            states_named(["running", word])
        assert caught.value.hint == f"Known: {', '.join(name.lower() for name in STATES)}."


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (Task(state=Task.QUEUED, state_reason="waits for a runner"), "waits for a runner"),
        (Task(state=Task.RUNNING, progress=TaskProgress(step=3, total_steps=9)), "step 3/9"),
        (
            Task(state=Task.RUNNING, progress=TaskProgress(step=3, total_steps=9, metrics={"loss": 1.23456})),
            "step 3/9, loss 1.235",
        ),
        (Task(state=Task.SUCCEEDED, progress=TaskProgress(step=9, total_steps=9, metrics={"eval_loss": 1})), "step 9/9"),
        (Task(state=Task.FAILED, error=TaskError(reason="R"), progress=TaskProgress(step=3, total_steps=9)), "R"),
    ],
)
def test_progress_is_what_matters_in_the_state(task, text):
    assert progress_text(task) == text


def test_an_error_is_reason_message_and_hint():
    assert error_text(TaskError(reason="R", message="m", hint="h")) == "R: m\nhint: h"


@pytest.mark.parametrize(
    "settings",
    [
        ["num_train_epochs=0.5", "max_steps=10", "learning_rate=0.0002"],
        ["lora.rank=8", "lora.alpha=16", "lora.target_modules=q_proj,v_proj", "lora.use_rslora=true"],
        ["warmup_ratio=0", "seed=0"],
        ["lora.use_rslora=false"],
        ["lr_scheduler_type=cosine", "precision=bf16"],
        [],
    ],
)
def test_numbers_are_shown_as_they_are_set(settings):
    assert hyperparameter_lines(build(parse_settings(settings))) == settings


def test_a_point_is_a_line_of_sorted_metrics_with_six_digits():
    event = TaskEvent(step_metrics=StepMetrics(step=12, values={"loss": 1.23456789, "learning_rate": 1e-5, "count": 1000000.0}))
    assert metric_line(event) == "step 12 count=1e+06 learning_rate=1e-05 loss=1.23457"


class TestTaskFiles:
    def test_what_show_prints_is_what_create_reads(self, tmp_path):
        task = describe_task(name="n", base_model="tiny", dataset="d", hyperparameters={"lora.rank": 8}, labels={"a": "b"})
        path = tmp_path / "task.json"
        path.write_text(MessageToJson(task, preserving_proto_field_name=True))
        assert read_task(path) == task

    def test_the_names_of_proto_json_are_read_too(self, tmp_path):
        path = tmp_path / "task.json"
        path.write_text(json.dumps({"displayName": "n", "spec": {"fineTuning": {"baseModel": "tiny"}}}))
        assert read_task(path).spec.fine_tuning.base_model == "tiny"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "null",
            "7",
            '"words"',
            "- a\n- b",
            "display_name: [1, 2]",
            "spec: {fine_tuning: {method: MAGIC}}",
            "spec: {fine_tuning: {hyperparameters: {max_steps: many}}}",
            "spec: {fine_tuning: {hyperparameters: {max_stepps: 1}}}",
            "1: 2",
            "a: b: c",
            "\tdisplay_name: n",
        ],
    )
    def test_what_is_no_task_is_refused_with_the_file_and_the_form_it_should_have(self, tmp_path, text):
        path = tmp_path / "task.yaml"
        path.write_text(text)
        with pytest.raises(InvalidArgument) as caught:
            read_task(path)
        assert caught.value.reason == "TASK_FILE_INVALID"
        assert str(path) in caught.value.message
        assert "tunesmith task show ID --json" in caught.value.hint

    def test_a_file_that_is_missing_or_a_directory_is_not_found(self, tmp_path):
        for path in (tmp_path, tmp_path / "none.json"):
            with pytest.raises(InvalidArgument) as caught:
                read_task(path)
            assert caught.value.reason == "FILE_NOT_FOUND"

    def test_without_a_yaml_reader_json_still_works_and_the_rest_says_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "yaml", None)
        path = tmp_path / "task"
        path.write_text('{"display_name": "n"}')
        assert read_task(path).display_name == "n"
        path.write_text("display_name: n")
        with pytest.raises(InvalidArgument) as caught:
            read_task(path)
        assert caught.value.hint == "Write it as JSON, or install PyYAML."


def started(total: int, attempt: int = 1) -> TaskEvent:
    return TaskEvent(attempt=attempt, training_started=TrainingStarted(total_steps=total))


def point(step: int, seconds: float, **values: float) -> TaskEvent:
    moment = Timestamp(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
    return TaskEvent(time=moment, step_metrics=StepMetrics(step=step, values=values))


def view_of(*events: TaskEvent) -> TaskView:
    view = TaskView(state="RUNNING")
    for event in events:
        view.apply(event)
    return view


class TestView:
    def test_the_time_to_go_is_the_pace_between_the_first_and_the_last_point(self):
        view = view_of(started(10), point(1, 100.0), point(2, 100.5), point(4, 106.0))
        assert view.remaining_seconds() == pytest.approx(12.0)

    @pytest.mark.parametrize(
        "events",
        [
            [],
            [started(10)],
            [started(10), point(1, 5)],
            [point(1, 5), point(2, 6)],
            [started(10), point(3, 5), point(3, 9)],
            [started(10), point(3, 5), point(2, 9)],
        ],
        ids=["nothing", "no point", "one point", "no total", "no progress", "backwards"],
    )
    def test_without_a_pace_there_is_no_time_to_go(self, events):
        view = view_of(*events)
        assert view.remaining_seconds() is None
        assert "ETA" not in view.line().plain

    def test_a_new_attempt_is_not_slowed_by_the_pause_before_it(self):
        view = view_of(started(10), point(1, 0), point(2, 1), started(10, attempt=2), point(3, 1000), point(4, 1001))
        assert view.remaining_seconds() == pytest.approx(6.0)

    def test_more_steps_than_planned_take_no_negative_time_and_fill_the_bar_once(self):
        view = view_of(started(2), point(1, 1), point(5, 2))
        assert view.remaining_seconds() == 0
        assert "100%" in view.line().plain

    def test_measurements_stay_until_they_are_measured_again(self):
        view = view_of(started(4), point(1, 1, loss=2.0), point(2, 2, eval_loss=1.5), point(3, 3, loss=1.0))
        assert "loss 1.000 (eval 1.500)" in view.line().plain

    def test_a_loss_that_is_not_a_number_is_shown_as_such(self):
        assert "loss nan" in view_of(started(4), point(1, 1, loss=float("nan"))).line().plain

    @pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "CANCELLED"])
    def test_at_the_end_the_state_leads_the_line_and_nothing_is_left_to_do(self, state):
        view = view_of(started(4), point(1, 1), point(2, 2))
        view.apply(TaskEvent(state_change=StateChange(to_state=STATES[state])))
        line = view.line().plain
        assert line.startswith(state)
        assert "ETA" not in line
        assert "finishing" not in line

    @pytest.mark.parametrize("width", [1, 20, 40])
    def test_a_narrow_terminal_still_gets_a_line(self, width):
        line = view_of(started(1000), point(999, 1, loss=1.0, tokens_per_second=12345.0)).line(width)
        assert line.no_wrap
        assert line.plain.startswith("RUNNING")

    def test_the_first_attempt_is_not_mentioned(self):
        assert "attempt" not in view_of(started(4, attempt=1)).line().plain
        assert "attempt 3" in view_of(started(4, attempt=3)).line().plain


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (TaskError(reason="R", message="m", hint="h"), ["R: m", "hint: h"]),
        (
            TaskError(reason="R", message="m", hint="h", step=7, error_class="ERROR_CLASS_TRANSIENT"),
            ["R (step 7): m", "class: transient, trying again may work", "hint: h"],
        ),
    ],
    ids=["older server", "all"],
)
def test_a_failure_says_cause_class_and_hint(error, lines):
    assert error_text(error).splitlines() == lines
