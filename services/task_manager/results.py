"""What evaluations and generations have found and fine-tunings have held out, in Postgres; written with the event that tells it,
read by GetTask."""

import uuid
from collections.abc import Iterable

from services.common.postgres import Connection, Pool, transaction
from services.task_manager.domain.kind import Kind
from services.task_manager.domain.task import Task
from services.task_manager.follow_ups import evaluation_id
from tunesmith.v1 import task_event_pb2, task_pb2

_STORE = """
INSERT INTO task_manager.task_result (task_id, payload) VALUES (%(id)s, %(payload)s)
ON CONFLICT (task_id) DO UPDATE SET payload = excluded.payload
"""
_SELECT = """
SELECT t.id, r.payload FROM task_manager.task t LEFT JOIN task_manager.task_result r ON r.task_id = t.id
WHERE t.id = ANY(%(ids)s)
"""

KINDS = frozenset(("evaluation_finished", "generation_finished", "rows_held_out"))
"""Of the events that bring a result."""


def found(events: Iterable[task_event_pb2.TaskEvent]) -> task_pb2.Task | None:
    """The newest result among the events; None when there is none."""
    newest = None
    for event in events:
        if event.HasField("evaluation_finished"):
            newest = task_pb2.Task(evaluation_result=event.evaluation_finished.result)
        elif event.HasField("generation_finished"):
            newest = task_pb2.Task(generation_result=event.generation_finished.result)
        elif event.HasField("rows_held_out"):
            newest = task_pb2.Task(held_out_dataset=event.rows_held_out.dataset)
    return newest


async def store(connection: Connection, task_id: uuid.UUID, result: task_pb2.Task) -> None:
    """Keeps it in place of an earlier one."""
    await connection.execute(_STORE, {"id": task_id, "payload": result.SerializeToString()})


class Results:
    """Raises Unavailable when Postgres is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def tell(self, task: Task, message: task_pb2.Task) -> None:
        """Adds to the task's message what it has found, or what the evaluation that followed on it has."""
        if task.kind is Kind.EXPORT:
            return
        asked = [task.id, evaluation_id(task.id)] if task.kind is Kind.FINE_TUNING else [task.id]
        async with transaction(self._pool) as connection:
            rows = await (await connection.execute(_SELECT, {"ids": asked})).fetchall()
        for row in rows:
            message.MergeFromString(row["payload"] or b"")
            if row["id"] != task.id:
                message.evaluation_task = f"tasks/{row['id']}"
