"""The evaluation that follows on a fine-tuning by itself: created with the end of that task, in the same transaction; used by the
claims."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from services.common.names import resource_uuid
from services.common.postgres import Connection
from services.task_manager.domain.kind import Kind
from services.task_manager.domain.task import NewTask
from services.task_manager.domain.validation import MAX_DISPLAY_NAME
from services.task_manager.insertion import insert
from tunesmith.v1 import evaluation_pb2, task_pb2, task_spec_pb2

_PREFIX = "Evaluation of "
_MOST_CHECKPOINTS = 30
_MOST_VALIDATION_ROWS = 200
_NAMESPACE = uuid.UUID("6d0c0c38-6a5f-5c0e-8f0a-0f6f3a3c9b1e")
_SELECT = """
SELECT t.id, t.display_name, t.spec, t.artifact, t.priority, r.payload AS result
FROM task_manager.task t LEFT JOIN task_manager.task_result r ON r.task_id = t.id
WHERE t.id = %(id)s AND t.kind = 'FINE_TUNING' AND t.state = 'SUCCEEDED'
"""


def evaluation_id(task_id: uuid.UUID) -> uuid.UUID:
    """Of the evaluation that follows on a fine-tuning: always the same, so that there is never a second one."""
    return uuid.uuid5(_NAMESPACE, str(task_id))


def asks_checkpoints(spec: bytes) -> bool:
    """Whether the evaluation that follows on a task asks its kept checkpoints, too."""
    ask = task_spec_pb2.TaskSpec.FromString(spec).fine_tuning
    return bool(ask.evaluation_dataset) and ask.evaluation_checkpoints


async def create(connection: Connection, task_id: uuid.UUID, checkpoints: Sequence[str] = ()) -> bool:
    """Whether the task has succeeded just now and its evaluation was recorded; `checkpoints` are asked, too, oldest first."""
    row = await (await connection.execute(_SELECT, {"id": task_id})).fetchone()
    if row is None or (new := evaluation_of(row, checkpoints)) is None:
        return False
    return await insert(connection, new)


def evaluation_of(row: Mapping[str, Any], checkpoints: Sequence[str] = ()) -> NewTask | None:
    """The evaluation of a fine-tuning that has succeeded; None when there is nothing to ask, or it is not to be done.

    `row` has the columns of the task, and as `result` what its run has told: a Task or nothing.
    """
    given = task_spec_pb2.TaskSpec.FromString(row["spec"])
    ask, labels = given.fine_tuning, dict(given.runner_labels)
    evaluation = _questions(ask, task_pb2.Task.FromString(row["result"] or b"").held_out_dataset)
    if evaluation is None:
        return None
    evaluation.models[:] = [ask.base_model, *checkpoints[-_MOST_CHECKPOINTS:], row["artifact"]]
    spec = task_spec_pb2.TaskSpec(evaluation=evaluation, runner_labels=labels)
    return NewTask(
        id=evaluation_id(row["id"]),
        display_name=f"{_PREFIX}{row['display_name']}"[:MAX_DISPLAY_NAME],
        description="",
        labels={},
        kind=Kind.EVALUATION,
        spec=spec.SerializeToString(deterministic=True),
        effective_hyperparameters=b"",
        processes=1,
        datasets=(resource_uuid(evaluation.dataset, "datasets"),),
        base_model=ask.base_model,
        method="",
        tuning="",
        note=f"tasks/{row['id']} has succeeded and has data for it",
        request_id=None,
        request_digest=b"",
        priority=row["priority"],
        origin_artifact=row["artifact"],
        origin_task=row["id"],
        runner_labels=labels,
    )


def _questions(ask: task_spec_pb2.FineTuning, held_out: str) -> evaluation_pb2.Evaluation | None:
    """What is asked; validation data, given or `held_out` by the run, has questions and answers, or, for CPT, texts."""
    if ask.evaluation_dataset:
        return evaluation_pb2.Evaluation(dataset=ask.evaluation_dataset, checkpoints=ask.evaluation_checkpoints)
    dataset = ask.validation_dataset or held_out
    if not dataset or ask.skip_evaluation or _tells_itself(ask):
        return None
    # It was chosen for its loss and may be long, and in any order.
    return evaluation_pb2.Evaluation(dataset=dataset, max_rows=_MOST_VALIDATION_ROWS, spread_rows=True)


def _tells_itself(ask: task_spec_pb2.FineTuning) -> bool:
    """A head of labels cannot be asked anything; its run brings the verdict on the validation data along, see `Results`."""
    return ask.method == task_spec_pb2.FineTuning.CLASSIFICATION
