"""The events of tasks in Postgres: numbered here and nowhere else; used by followers (append) and streams (read).

Sequence numbers are dense because whoever gives one holds the lock on the task's event head until the commit: commit order is
sequence order, and a reader that sees number n sees every number below.
"""

import uuid
from collections.abc import Sequence

from services.common.postgres import Connection, Pool, transaction
from services.task_manager import state_changes
from services.task_manager.domain.claim import Claim, SequenceGap
from services.task_manager.domain.progress import Progress
from services.task_manager.domain.task import Change, Snapshot, State
from services.task_manager.frames import MAX_BYTES, MAX_EVENTS, decode
from services.task_manager.hub import Hub
from services.task_manager.repository import not_found
from services.task_manager.rows import progress_parameters
from tunesmith.v1 import task_event_pb2

# The frame that holds the first wanted event begins at or before it; frames are read until a page is full.
_PAGE = """
SELECT payload FROM (
    SELECT first_sequence, payload,
           sum(octet_length(payload)) OVER (ORDER BY first_sequence) - octet_length(payload) AS bytes_before
    FROM (
        SELECT first_sequence, payload FROM task_manager.event_frame
        WHERE task_id = %(id)s AND first_sequence >= coalesce((
            SELECT max(first_sequence) FROM task_manager.event_frame
            WHERE task_id = %(id)s AND first_sequence <= %(after)s + 1
        ), 1)
        ORDER BY first_sequence LIMIT %(frames)s
    ) AS candidates
) AS page WHERE bytes_before < %(bytes)s ORDER BY first_sequence
"""


class EventLog:
    """Append by compare-and-set, read by pages; raises Unavailable when Postgres is away."""

    def __init__(self, pool: Pool, hub: Hub) -> None:
        self._pool = pool
        self._hub = hub

    async def append(
        self, claim: Claim, after: int, events: Sequence[task_event_pb2.TaskEvent], progress: Progress | None
    ) -> int:
        """Appends the run's events `after` + 1 and on; returns the run's last event that is stored.

        A repeat stores nothing and is acknowledged by that number. Raises StaleClaim for anybody but the owner, SequenceGap when
        events were left out. The beginning of the training makes the task RUNNING in the same transaction.
        """
        async with transaction(self._pool, "events.append") as connection:
            locked = await state_changes.lock(connection, claim.task_id) if _starts_training(events) else None
            head = await state_changes.lock_head(connection, claim)
            if head.run_sequence > after:
                return head.run_sequence
            _check_contiguous(events, head.run_sequence + 1)
            if locked is not None and locked.state is State.STARTING:
                await state_changes.move(connection, locked, Change(State.RUNNING, "the training loop begins"))
            await _store(connection, claim, events)
            if progress:
                await _store_progress(connection, claim.task_id, progress)
        self._hub.notify(claim.task_id)
        return after + len(events)

    async def snapshot(self, task_id: uuid.UUID) -> Snapshot:
        """Where the task and its events stand; raises NotFound."""
        async with transaction(self._pool) as connection:
            cursor = await connection.execute(
                "SELECT t.state, h.epoch, h.first_available_sequence, h.head_sequence, t.error, t.artifact"
                " FROM task_manager.task t JOIN task_manager.event_head h ON h.task_id = t.id WHERE t.id = %(id)s",
                {"id": task_id},
            )
            row = await cursor.fetchone()
        if row is None:
            raise not_found(task_id)
        return Snapshot(**row | {"state": State(row["state"])})

    async def page(self, task_id: uuid.UUID, after: int) -> list[task_event_pb2.TaskEvent]:
        """The next events after a cursor, in order; at most about 2 x 256 KiB. Empty at the head."""
        parameters = {"id": task_id, "after": after, "frames": MAX_EVENTS, "bytes": MAX_BYTES}
        async with transaction(self._pool) as connection:
            rows = await (await connection.execute(_PAGE, parameters)).fetchall()
        return [event for row in rows for event in decode(row["payload"]) if event.sequence > after]


def _starts_training(events: Sequence[task_event_pb2.TaskEvent]) -> bool:
    return any(event.HasField("training_started") for event in events)


def _check_contiguous(events: Sequence[task_event_pb2.TaskEvent], first: int) -> None:
    for expected, event in enumerate(events, first):
        if event.sequence != expected:
            raise SequenceGap(expected, event.sequence)


async def _store(connection: Connection, claim: Claim, events: Sequence[task_event_pb2.TaskEvent]) -> None:
    # The task's state is told by the task manager alone; what a run says about its own state is counted but not repeated.
    kept = [event for event in events if not event.HasField("state_change")]
    cursor = await connection.execute(
        "UPDATE task_manager.event_head h SET head_sequence = head_sequence + %(kept)s, run_sequence = run_sequence + %(all)s"
        " FROM task_manager.task t WHERE h.task_id = %(id)s AND t.id = h.task_id RETURNING h.head_sequence, t.attempt",
        {"id": claim.task_id, "kept": len(kept), "all": len(events)},
    )
    row = await cursor.fetchone()
    assert row is not None, "the head is locked"
    if kept:
        first = row["head_sequence"] - len(kept) + 1
        numbered = [_numbered(event, first + index, row["attempt"]) for index, event in enumerate(kept)]
        await state_changes.insert_frame(connection, claim.task_id, claim.epoch, numbered)


def _numbered(event: task_event_pb2.TaskEvent, sequence: int, attempt: int) -> task_event_pb2.TaskEvent:
    copy = task_event_pb2.TaskEvent()
    copy.CopyFrom(event)
    copy.sequence, copy.attempt = sequence, attempt
    return copy


async def _store_progress(connection: Connection, task_id: uuid.UUID, progress: Progress) -> None:
    await connection.execute(
        "INSERT INTO task_manager.task_progress (task_id, step, total_steps, epoch, remaining, metric_names, metric_values)"
        " VALUES (%(task_id)s, %(step)s, %(total_steps)s, %(epoch)s, %(remaining)s, %(metric_names)s, %(metric_values)s)"
        " ON CONFLICT (task_id) DO UPDATE SET step = excluded.step, total_steps = excluded.total_steps, epoch = excluded.epoch,"
        " remaining = excluded.remaining, metric_names = excluded.metric_names, metric_values = excluded.metric_values",
        progress_parameters(task_id, progress),
    )
