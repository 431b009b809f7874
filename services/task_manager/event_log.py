"""The events of tasks in Postgres: numbered here and nowhere else; used by followers (append) and streams (read).

Sequence numbers are dense because whoever gives one holds the lock on the task's event head until the commit: commit order is
sequence order, and a reader that sees number n sees every number below.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from services.common.failpoints import failpoint
from services.common.postgres import Connection, Pool, session, transaction
from services.task_manager import event_segments, results, state_changes
from services.task_manager.domain.claim import Claim, SequenceGap, StaleClaim
from services.task_manager.domain.progress import Progress
from services.task_manager.domain.task import Change, Snapshot, State
from services.task_manager.event_batches import BEGINNINGS
from services.task_manager.event_segments import Archive
from services.task_manager.frames import MAX_BYTES, MAX_EVENTS, decode, pack
from services.task_manager.hub import Hub
from services.task_manager.repository import not_found
from services.task_manager.rows import progress_parameters
from services.task_manager.shared_reads import SharedReads
from tunesmith.v1 import task_event_pb2

_SNAPSHOTS = """
SELECT t.id, t.state, h.epoch, h.first_available_sequence, h.head_sequence, t.error, t.artifact
FROM task_manager.task t JOIN task_manager.event_head h ON h.task_id = t.id WHERE t.id = ANY(%(ids)s)
"""
# The frame that holds the first wanted event begins at or before it; frames are read until a page is full.
_PAGES = """
SELECT number, page.first_sequence, page.attempt, page.payload
FROM unnest(%(ids)s::uuid[], %(after)s::bigint[]) WITH ORDINALITY AS wanted (id, after, number), LATERAL (
    SELECT first_sequence, attempt, payload,
           sum(octet_length(payload)) OVER (ORDER BY first_sequence) - octet_length(payload) AS bytes_before
    FROM (
        SELECT first_sequence, attempt, payload FROM task_manager.event_frame
        WHERE task_id = wanted.id AND first_sequence >= coalesce((
            SELECT max(first_sequence) FROM task_manager.event_frame
            WHERE task_id = wanted.id AND first_sequence <= wanted.after + 1
        ), 1)
        ORDER BY first_sequence LIMIT %(frames)s
    ) AS candidates
) AS page WHERE bytes_before < %(bytes)s ORDER BY number, page.first_sequence
"""
# Of pages each may be full, of snapshots each is small.
_PAGES_AT_ONCE = 16
_SNAPSHOTS_AT_ONCE = 500
# The payloads are sent as they are: as text they would be escaped byte by byte.
_APPEND = """
SELECT task_manager.append_frames(%(task_id)s, %(claim_epoch)s, %(owner)s, %(after)s, %(run_events)s, %(counts)s::int[],
    %(payloads)b::bytea[], %(has_progress)s, %(step)s, %(total_steps)s, %(epoch)s, %(remaining)s, %(metric_names)s::text[],
    %(metric_values)s::float8[]) AS stored
"""


_Cursor = tuple[uuid.UUID, int]


class EventLog:
    """Append by compare-and-set, read by pages; raises Unavailable when Postgres is away."""

    def __init__(self, pool: Pool, hub: Hub, archive: Archive | None = None) -> None:
        """`archive`: where compacted events are; None = nothing is ever compacted."""
        self._pool = pool
        self._hub = hub
        self._archive = archive
        self._snapshots = SharedReads(self._read_snapshots, most=_SNAPSHOTS_AT_ONCE)
        self._pages = SharedReads(self._read_pages, most=_PAGES_AT_ONCE)

    async def append(
        self, claim: Claim, after: int, events: Sequence[task_event_pb2.TaskEvent], progress: Progress | None
    ) -> int:
        """Appends the run's events `after` + 1 and on, however many; returns the run's last event that is stored.

        A repeat stores nothing and is acknowledged by that number. Raises StaleClaim for anybody but the owner, SequenceGap when
        events were left out. The beginning of the work makes the task RUNNING in the same transaction.
        """
        _check_contiguous(events, after + 1)
        # Every event is looked at once: this is what an append costs.
        kinds = {event.WhichOneof("event") for event in events}
        beginning = next((words for kind, words in BEGINNINGS.items() if kind in kinds), "")
        found = results.found(events) if kinds & results.KINDS else None
        # The task's state is told by the task manager alone; what a run says about its own state is counted but not repeated.
        told = [event for event in events if not event.HasField("state_change")] if "state_change" in kinds else events
        parameters = _append_parameters(claim, after, len(events), told, progress)
        if beginning or found:
            async with transaction(self._pool, "events.append") as connection:
                if beginning:
                    await _start(connection, claim, after, beginning)
                stored = await _append(connection, parameters)
                if found and stored == after + len(events):
                    await results.store(connection, claim.task_id, found)
        else:
            async with session(self._pool) as connection:
                failpoint("events.append.commit")
                stored = await _append(connection, parameters)
                failpoint("events.append.committed")
        if stored is None:
            raise StaleClaim(claim)
        if stored < after:
            raise SequenceGap(stored + 1, after + 1)
        self._hub.notify(claim.task_id)
        return stored

    async def snapshot(self, task_id: uuid.UUID) -> Snapshot:
        """Where the task and its events stand; raises NotFound."""
        found = await self._snapshots.get(task_id)
        if found is None:
            raise not_found(task_id)
        return found

    async def page(self, task_id: uuid.UUID, after: int) -> Sequence[task_event_pb2.TaskEvent]:
        """The next events after a cursor, in order; at most about 2 x 256 KiB, of compacted ones 2 MiB. Empty at the head.

        Others may be reading the same events, so nobody may change them. Raises Unavailable also when storage has them and is
        away.
        """
        events = await self._pages.get((task_id, after)) or []
        if (events and events[0].sequence == after + 1) or self._archive is None:
            return events
        # Looked for behind the frames: whoever removes frames has committed their segment before.
        async with session(self._pool) as connection:
            segment = await event_segments.find_segment(connection, task_id, after + 1)
        if segment is None:
            return events
        return await event_segments.read_segment(self._archive, task_id, segment["sha256"], after)

    async def _read_snapshots(self, task_ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, Snapshot]:
        async with session(self._pool) as connection:
            rows = await (await connection.execute(_SNAPSHOTS, {"ids": list(task_ids)})).fetchall()
        return {row.pop("id"): Snapshot(**row | {"state": State(row["state"])}) for row in rows}

    async def _read_pages(self, wanted: Sequence[_Cursor]) -> Mapping[_Cursor, Sequence[task_event_pb2.TaskEvent]]:
        parameters = {"ids": [task_id for task_id, _ in wanted], "after": [after for _, after in wanted]}
        async with session(self._pool) as connection:
            cursor = await connection.execute(_PAGES, parameters | {"frames": MAX_EVENTS, "bytes": MAX_BYTES})
            rows = await cursor.fetchall()
        pages: dict[_Cursor, list[task_event_pb2.TaskEvent]] = {}
        for row in rows:
            place = wanted[row.pop("number") - 1]
            pages.setdefault(place, []).extend(event for event in decode(**row) if event.sequence > place[1])
        return pages


def _check_contiguous(events: Sequence[task_event_pb2.TaskEvent], first: int) -> None:
    for expected, event in enumerate(events, first):
        if event.sequence != expected:
            raise SequenceGap(expected, event.sequence)


async def _start(connection: Connection, claim: Claim, after: int, beginning: str) -> None:
    """The state changes right before the events that begin the work, unless they are repeated or leave others out."""
    locked = await state_changes.lock(connection, claim.task_id)
    head = await state_changes.lock_head(connection, claim)
    if locked is not None and locked.state is State.STARTING and head.run_sequence == after:
        await state_changes.move(connection, locked, Change(State.RUNNING, beginning))


async def _append(connection: Connection, parameters: Mapping[str, Any]) -> int | None:
    row = await (await connection.execute(_APPEND, parameters)).fetchone()
    return row["stored"] if row else None


def _append_parameters(
    claim: Claim, after: int, run_events: int, told: Sequence[task_event_pb2.TaskEvent], progress: Progress | None
) -> dict[str, Any]:
    counts, payloads = pack(told)
    return progress_parameters(claim.task_id, progress or Progress()) | {
        "claim_epoch": claim.epoch,
        "owner": claim.owner,
        "after": after,
        "run_events": run_events,
        "counts": counts,
        "payloads": payloads,
        "has_progress": progress is not None,
    }
