"""Anomalies, samples and the expected end as people read them."""

import pytest

from tunesmith.cli.event_text import anomaly_text, sample_text, told
from tunesmith.cli.task_view import TaskView
from tunesmith.v1.task_event_pb2 import Anomaly, SampleGenerated, StepMetrics, TaskEvent, TrainingStarted


def test_an_anomaly_of_an_older_server_is_one_line() -> None:
    assert (
        anomaly_text(Anomaly(reason="LOSS_NOT_FINITE", message="the loss is nan", step=3)) == "LOSS_NOT_FINITE: the loss is nan"
    )


def test_an_anomaly_with_rows_has_them_and_what_to_do_below() -> None:
    anomaly = Anomaly(reason="LOSS_SPIKE", message="m", rank=-1, rows=range(1, 15), suggestion="Do this.")
    assert anomaly_text(anomaly).splitlines() == [
        "LOSS_SPIKE: m",
        "  rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 2 more",
        "  hint: Do this.",
    ]


@pytest.mark.parametrize("rank", [0, 1])
def test_stacks_are_shown_with_their_rank(rank: int) -> None:
    anomaly = Anomaly(reason="TRAINING_STALLED", message="m", rank=rank, log_lines=["File a", "File b"])
    assert anomaly_text(anomaly).splitlines() == [f"TRAINING_STALLED [rank {rank}]: m", "  | File a", "  | File b"]


@pytest.mark.parametrize(("truncated", "end"), [(False, ""), (True, " …")], ids=["whole", "cut"])
def test_a_sample_is_one_line_whatever_it_says(truncated: bool, end: str) -> None:
    sample = SampleGenerated(step=20, prompt="Where is\nit?", text=" here \n there", truncated=truncated)
    assert sample_text(sample) == f"sample after step 20: Where is it? -> here there{end}"


def point(step: int, milliseconds: int | None) -> TaskEvent:
    metrics = StepMetrics(step=step)
    if milliseconds is not None:
        metrics.remaining.FromMilliseconds(milliseconds)
    return TaskEvent(step_metrics=metrics)


def test_the_time_to_go_is_what_the_trainer_expects() -> None:
    view = TaskView(state="RUNNING")
    view.apply(TaskEvent(training_started=TrainingStarted(total_steps=10)))
    view.apply(point(2, 75_500))
    assert view.remaining_seconds() == 75.5
    view.apply(point(3, None))
    assert view.remaining_seconds() == 75.5, "a validation does not say it"
    assert "ETA 1:1" in view.line().plain
    view.apply(TaskEvent(attempt=2, training_started=TrainingStarted(total_steps=10)))
    assert view.remaining_seconds() is None, "a new attempt learns it anew"


def test_of_a_task_the_newest_anomalies_and_the_newest_answers_are_shown() -> None:
    events = [TaskEvent(anomaly=Anomaly(reason="LOSS_SPIKE", message=f"m{number}")) for number in range(12)]
    for step in (10, 20):
        events += [TaskEvent(sample_generated=SampleGenerated(step=step, index=i, prompt=f"p{i}", text="t")) for i in (0, 1)]
    assert told(events) == [
        "2 anomalies before these: tunesmith task watch",
        *(f"LOSS_SPIKE: m{number}" for number in range(2, 12)),
        "sample after step 20: p0 -> t",
        "sample after step 20: p1 -> t",
    ]
    assert told([]) == []


def test_what_an_evaluation_tells_while_it_is_followed():
    from tunesmith.cli.event_text import NOTES
    from tunesmith.cli.task_view import TaskView
    from tunesmith.v1.evaluation_pb2 import EvaluationResult
    from tunesmith.v1.task_event_pb2 import AnsweringStarted, EvaluationFinished, RowsHeldOut, StepMetrics, TaskEvent

    begun = AnsweringStarted(total_answers=40, resumed_answers=10, models=["a"])
    assert NOTES["answering_started"](begun) == "goes on behind 10 of 40 answers"
    assert NOTES["answering_started"](AnsweringStarted(total_answers=40)) == ""
    assert NOTES["rows_held_out"](RowsHeldOut(dataset="datasets/a")) == "the rows that were held out are datasets/a"
    finished = EvaluationFinished(result=EvaluationResult(summary="b: better by 41 ± 5 points."))
    assert NOTES["evaluation_finished"](finished) == "b: better by 41 ± 5 points."
    view = TaskView(state="RUNNING")
    view.apply(TaskEvent(attempt=2, answering_started=begun))
    view.apply(TaskEvent(step_metrics=StepMetrics(step=20, values={"answers_per_second": 2.5})))
    line = view.line().plain
    assert "step 20/40" in line
    assert "2.5 answers/s" in line
    assert "attempt 2" in line
