"""Moves a task to another state inside a transaction: task row, event and history together; used by the repositories.

Lock order, everywhere: the task row, then its event head. Appends lock only the head, so they never wait in a circle.
"""

import dataclasses
import uuid
from typing import Any

from services.common.postgres import Connection
from services.task_manager.conversion import state_change_event
from services.task_manager.domain import transitions
from services.task_manager.domain.claim import Claim, StaleClaim
from services.task_manager.domain.task import Change, State
from services.task_manager.frames import encode
from tunesmith.v1 import task_event_pb2


@dataclasses.dataclass(frozen=True, slots=True)
class Locked:
    """A task whose row is locked until the transaction ends."""

    id: uuid.UUID
    state: State
    attempt: int
    lost_run_count: int


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """An event head that is locked until the transaction ends."""

    head_sequence: int
    run_sequence: int


async def lock(connection: Connection, task_id: uuid.UUID) -> Locked | None:
    """Locks the task's row; None when there is no such task."""
    cursor = await connection.execute(
        "SELECT id, state, attempt, lost_run_count FROM task_manager.task WHERE id = %(id)s FOR NO KEY UPDATE", {"id": task_id}
    )
    row = await cursor.fetchone()
    return Locked(row["id"], State(row["state"]), row["attempt"], row["lost_run_count"]) if row else None


async def lock_head(connection: Connection, claim: Claim) -> Head:
    """Locks the event head for the owner; raises StaleClaim when epoch or owner is another by now."""
    cursor = await connection.execute(
        "SELECT head_sequence, run_sequence FROM task_manager.event_head"
        " WHERE task_id = %(task_id)s AND epoch = %(epoch)s AND owner = %(owner)s FOR NO KEY UPDATE",
        dataclasses.asdict(claim),
    )
    row = await cursor.fetchone()
    if row is None:
        raise StaleClaim(claim)
    return Head(**row)


async def lock_owned(connection: Connection, claim: Claim) -> Locked:
    """Locks task and head for the owner; raises StaleClaim."""
    locked = await lock(connection, claim.task_id)
    await lock_head(connection, claim)
    if locked is None:
        raise StaleClaim(claim)
    return locked


async def move(connection: Connection, locked: Locked, change: Change) -> None:
    """Moves a locked task and records the event; raises IllegalTransition. Ownership ends where no run can be any more."""
    transitions.check(locked.state, change.to)
    await connection.execute(
        "UPDATE task_manager.task SET state = %(to)s, state_reason = %(reason)s, error = %(error)s, artifact = %(artifact)s,"
        " start_time = CASE WHEN %(starts)s THEN coalesce(start_time, now()) ELSE start_time END,"
        " end_time = CASE WHEN %(ends)s THEN now() END, update_time = now() WHERE id = %(id)s",
        {
            "id": locked.id,
            "to": change.to.value,
            "reason": change.reason,
            "error": change.error,
            "artifact": change.artifact,
            "starts": change.to is State.RUNNING,
            "ends": change.to.is_terminal,
        },
    )
    await record(connection, locked.id, locked.attempt, locked.state, change)


async def record(connection: Connection, task_id: uuid.UUID, attempt: int, before: State | None, change: Change) -> None:
    """Appends the StateChange event; its time is the database's."""
    parameters: dict[str, Any] = {"id": task_id, "owned": change.to.is_active}
    cursor = await connection.execute(
        "UPDATE task_manager.event_head SET head_sequence = head_sequence + 1,"
        " owner = CASE WHEN %(owned)s THEN owner END,"
        " lease_expire_time = CASE WHEN %(owned)s THEN lease_expire_time END"
        " WHERE task_id = %(id)s RETURNING head_sequence, epoch, now() AS time",
        parameters,
    )
    row = await cursor.fetchone()
    assert row is not None, f"tasks/{task_id} has no event head"
    event = state_change_event(row["head_sequence"], row["time"], attempt, before, change)
    await insert_frame(connection, task_id, row["epoch"], [event])


async def insert_frame(connection: Connection, task_id: uuid.UUID, epoch: int, events: list[task_event_pb2.TaskEvent]) -> None:
    """Stores numbered events as one row."""
    await connection.execute(
        "INSERT INTO task_manager.event_frame (task_id, first_sequence, last_sequence, epoch, payload)"
        " VALUES (%(task_id)s, %(first)s, %(last)s, %(epoch)s, %(payload)s)",
        {
            "task_id": task_id,
            "first": events[0].sequence,
            "last": events[-1].sequence,
            "epoch": epoch,
            "payload": encode(events),
        },
    )
