"""Records a new task with its first event inside a transaction; used by the repositories."""

import dataclasses

from psycopg.types.json import Jsonb

from services.common.postgres import Connection
from services.task_manager import state_changes
from services.task_manager.domain.task import Change, NewTask, State

_INSERT = """
INSERT INTO task_manager.task (id, display_name, description, labels, spec, effective_hyperparameters,
    processes, datasets, base_model, method, tuning, priority, request_id, request_digest,
    state_reason, origin_artifact, origin_task, origin_step, cloned_from, not_before, max_attempts, expected_duration, kind,
    memory_bytes, runner_labels, creator)
VALUES (%(id)s, %(display_name)s, %(description)s, %(labels)s, %(spec)s, %(effective_hyperparameters)s,
    %(processes)s, %(datasets)s::uuid[], %(base_model)s, %(method)s, %(tuning)s, %(priority)s, %(request_id)s, %(request_digest)s,
    %(reason)s, %(origin_artifact)s, %(origin_task)s, %(origin_step)s, %(cloned_from)s, %(not_before)s, %(max_attempts)s,
    %(expected_duration)s, %(kind)s, %(memory_bytes)s, %(runner_labels)s, %(creator)s)
ON CONFLICT DO NOTHING RETURNING id
"""


async def insert(connection: Connection, new: NewTask) -> bool:
    """Whether it was recorded; a task with the same id or request_id is left as it is."""
    parameters = dataclasses.asdict(new) | {"labels": Jsonb(dict(new.labels)), "reason": "waits for a trainer"}
    parameters |= {"datasets": list(new.datasets), "kind": new.kind.value, "runner_labels": Jsonb(dict(new.runner_labels))}
    if await (await connection.execute(_INSERT, parameters)).fetchone() is None:
        return False
    await connection.execute("INSERT INTO task_manager.event_head (task_id) VALUES (%(id)s)", parameters)
    created = f"the task was created; {new.note}" if new.note else "the task was created"
    await state_changes.record(connection, new.id, 0, None, Change(State.QUEUED, created))
    return True
