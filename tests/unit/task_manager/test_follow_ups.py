"""The evaluation that follows on a fine-tuning, and the result that is told of it."""

import uuid
from typing import Any

import pytest

from services.task_manager.domain.asking import Evaluation
from services.task_manager.domain.kind import Kind
from services.task_manager.follow_ups import evaluation_id, evaluation_of
from services.task_manager.results import found
from tunesmith.v1 import evaluation_pb2, generation_pb2, task_event_pb2, task_pb2, task_spec_pb2

ID = uuid.UUID(int=7)
DATASET = f"datasets/{ID}"
ARTIFACT = f"artifacts/{ID}"


def a_row(**tuning: Any) -> dict[str, Any]:
    spec = task_spec_pb2.TaskSpec(fine_tuning=task_spec_pb2.FineTuning(base_model="baseModels/tiny", **tuning))
    task = {"id": ID, "display_name": "n" * 128, "spec": spec.SerializeToString(), "artifact": ARTIFACT, "priority": 3}
    return task | {"result": None}


def held_out(dataset: str) -> bytes:
    return task_pb2.Task(held_out_dataset=dataset).SerializeToString()


def test_an_evaluation_follows_on_a_fine_tuning_that_asks_for_it() -> None:
    new = evaluation_of(a_row(evaluation_dataset=DATASET))
    assert new is not None
    spec = task_spec_pb2.TaskSpec.FromString(new.spec).evaluation
    assert (list(spec.models), spec.dataset) == (["baseModels/tiny", ARTIFACT], DATASET)
    assert (new.kind, new.datasets, new.priority, len(new.display_name)) == (Kind.EVALUATION, (ID,), 3, 128)
    assert (new.origin_task, new.origin_artifact) == (ID, ARTIFACT)
    # A repeat is the same task.
    assert new.id == evaluation_id(ID) != evaluation_id(uuid.UUID(int=8))


def test_an_evaluation_goes_where_its_fine_tuning_was_sent() -> None:
    row = a_row(evaluation_dataset=DATASET)
    spec = task_spec_pb2.TaskSpec.FromString(row["spec"])
    spec.runner_labels["zone"] = "a"
    new = evaluation_of(row | {"spec": spec.SerializeToString()})
    assert new is not None
    assert new.runner_labels == dict(task_spec_pb2.TaskSpec.FromString(new.spec).runner_labels) == {"zone": "a"}


def test_the_evaluation_that_follows_asks_the_newest_checkpoints_before_the_result() -> None:
    checkpoints = [f"artifacts/{step}" for step in range(1, 33)]
    new = evaluation_of(a_row(evaluation_dataset=DATASET, evaluation_checkpoints=True), checkpoints)
    assert new is not None
    spec = task_spec_pb2.TaskSpec.FromString(new.spec).evaluation
    assert list(spec.models) == ["baseModels/tiny", *checkpoints[2:], ARTIFACT]
    assert spec.checkpoints
    ask = Evaluation(tuple(spec.models), spec.dataset, asks_checkpoints=spec.checkpoints)
    assert not [bad for bad in ask.violations() if "not between" in bad.description]


def test_validation_data_is_asked_when_there_is_no_other() -> None:
    methods = task_spec_pb2.FineTuning
    for method in (methods.METHOD_UNSPECIFIED, methods.SFT, methods.DPO, methods.ORPO, methods.KTO, methods.CPT):
        new = evaluation_of(a_row(validation_dataset=DATASET, method=method))
        assert new is not None
        spec = task_spec_pb2.TaskSpec.FromString(new.spec).evaluation
        assert (list(spec.models), spec.dataset, spec.max_rows) == (["baseModels/tiny", ARTIFACT], DATASET, 200)
        assert spec.spread_rows
        assert new.datasets == (ID,)
        ask = Evaluation(tuple(spec.models), spec.dataset, max_rows=spec.max_rows)
        assert not list(ask.violations())


def test_evaluation_data_goes_before_validation_data() -> None:
    new = evaluation_of(
        a_row(validation_dataset=f"datasets/{uuid.UUID(int=8)}", evaluation_dataset=DATASET, skip_evaluation=True)
    )
    assert new is not None
    spec = task_spec_pb2.TaskSpec.FromString(new.spec).evaluation
    assert (spec.dataset, spec.HasField("max_rows"), spec.spread_rows) == (DATASET, False, False)


def test_nothing_follows_on_a_fine_tuning_without_questions_or_that_does_not_want_it() -> None:
    assert evaluation_of(a_row()) is None
    assert evaluation_of(a_row(validation_dataset=DATASET, skip_evaluation=True)) is None
    assert evaluation_of(a_row(validation_dataset=DATASET, method=task_spec_pb2.FineTuning.CLASSIFICATION)) is None
    # Of a split nothing can be asked before its rows are a dataset.
    assert evaluation_of(a_row(validation_split_ratio=0.1)) is None
    assert evaluation_of(a_row(validation_split_ratio=0.1, skip_evaluation=True) | {"result": held_out(DATASET)}) is None


@pytest.mark.parametrize("method", ["SFT", "DPO", "ORPO", "KTO", "CPT"])
def test_the_rows_that_a_split_held_out_are_asked_like_validation_data(method: str) -> None:
    row = a_row(validation_split_ratio=0.1, method=task_spec_pb2.FineTuning.Method.Value(method))
    new = evaluation_of(row | {"result": held_out(DATASET)})
    assert new is not None
    spec = task_spec_pb2.TaskSpec.FromString(new.spec).evaluation
    assert (list(spec.models), spec.dataset, spec.max_rows) == (["baseModels/tiny", ARTIFACT], DATASET, 200)
    assert spec.spread_rows
    assert new.datasets == (ID,)


def test_evaluation_data_goes_before_what_a_split_held_out() -> None:
    row = a_row(validation_split_ratio=0.1, evaluation_dataset=DATASET)
    new = evaluation_of(row | {"result": held_out(f"datasets/{uuid.UUID(int=8)}")})
    assert new is not None
    assert task_spec_pb2.TaskSpec.FromString(new.spec).evaluation.dataset == DATASET


def test_the_newest_result_counts() -> None:
    def event(rows: int) -> task_event_pb2.TaskEvent:
        result = evaluation_pb2.EvaluationResult(row_count=rows)
        return task_event_pb2.TaskEvent(evaluation_finished=task_event_pb2.EvaluationFinished(result=result))

    log = task_event_pb2.TaskEvent(log_entry=task_event_pb2.LogEntry(text="x"))
    newest = found([event(1), log, event(2), log])
    assert newest is not None
    assert newest.evaluation_result.row_count == 2
    assert found([log]) is None
    made = task_event_pb2.GenerationFinished(result=generation_pb2.GenerationResult(dataset=DATASET))
    other = found([task_event_pb2.TaskEvent(generation_finished=made)])
    assert other is not None
    assert other.generation_result.dataset == DATASET
    lent = task_event_pb2.TaskEvent(rows_held_out=task_event_pb2.RowsHeldOut(dataset=DATASET))
    third = found([log, lent])
    assert third is not None
    assert third.held_out_dataset == DATASET
