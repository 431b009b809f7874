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
from tunesmith.v1 import evaluation_pb2, task_spec_pb2

_PREFIX = "Evaluation of "
_MOST_CHECKPOINTS = 30
_MOST_VALIDATION_ROWS = 200
_NAMESPACE = uuid.UUID("6d0c0c38-6a5f-5c0e-8f0a-0f6f3a3c9b1e")
_SELECT = """
SELECT id, display_name, spec, artifact, priority FROM task_manager.task
WHERE id = %(id)s AND kind = 'FINE_TUNING' AND state = 'SUCCEEDED'
"""


def evaluation_id(task_id: uuid.UUID) -> uuid.UUID:
    """Of the evaluation that follows on a fine-tuning: always the same, so that there is never a second one."""
    return uuid.uuid5(_NAMESPACE, str(task_id))


def asks_checkpoints(spec: bytes) -> bool:
    """Whether the evaluation that follows on a task asks its kept checkpoints, too."""
    ask = task_spec_pb2.TaskSpec.FromString(spec).fine_tuning
    return bool(ask.evaluation_dataset) and ask.evaluation_checkpoints


def without_verdict(spec: bytes) -> str:
    """Why no evaluation follows on a fine-tuning that has validation data; empty when one follows, or none is expected."""
    ask = task_spec_pb2.TaskSpec.FromString(spec).fine_tuning
    is_expected = bool(ask.validation_dataset or ask.validation_split_ratio) and not ask.skip_evaluation
    return f"no evaluation follows: {_obstacle(ask)}" if is_expected and _obstacle(ask) else ""


async def create(connection: Connection, task_id: uuid.UUID, checkpoints: Sequence[str] = ()) -> bool:
    """Whether the task has succeeded just now and its evaluation was recorded; `checkpoints` are asked, too, oldest first."""
    row = await (await connection.execute(_SELECT, {"id": task_id})).fetchone()
    if row is None or (new := evaluation_of(row, checkpoints)) is None:
        return False
    return await insert(connection, new)


def evaluation_of(row: Mapping[str, Any], checkpoints: Sequence[str] = ()) -> NewTask | None:
    """The evaluation of a fine-tuning that has succeeded; None when there is nothing to ask, or it is not to be done."""
    given = task_spec_pb2.TaskSpec.FromString(row["spec"])
    ask, labels = given.fine_tuning, dict(given.runner_labels)
    evaluation = _questions(ask)
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


def _questions(ask: task_spec_pb2.FineTuning) -> evaluation_pb2.Evaluation | None:
    """What is asked; validation data has questions and answers, or, for CPT, texts."""
    if ask.evaluation_dataset:
        return evaluation_pb2.Evaluation(dataset=ask.evaluation_dataset, checkpoints=ask.evaluation_checkpoints)
    if not ask.validation_dataset or ask.skip_evaluation or _obstacle(ask):
        return None
    # It was chosen for its loss and may be long.
    return evaluation_pb2.Evaluation(dataset=ask.validation_dataset, max_rows=_MOST_VALIDATION_ROWS)


def _obstacle(ask: task_spec_pb2.FineTuning) -> str:
    """Why validation data leads to no verdict; empty = it does."""
    if ask.evaluation_dataset:
        return ""
    if ask.method == task_spec_pb2.FineTuning.CLASSIFICATION:
        return "what tells labels apart cannot chat; its accuracy on the validation data is among the metrics"
    return "" if ask.validation_dataset else "the rows that were held out are no dataset; give a validation_dataset"
