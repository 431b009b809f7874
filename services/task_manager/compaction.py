"""Brings the events of tasks that have ended from Postgres to storage; a loop of the dispatcher.

The row of a segment is the commit point. Before it, the bytes in storage are nothing but bytes, and packing the same frames again
makes the same ones; behind it, readers find the events in the segment, and the frames may go whenever they go. So a kill at any
point leaves something the next round goes on from, and two task managers at once do the same work twice at worst.
"""

import asyncio
import datetime
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from services.common.errors import ServiceError, Unavailable
from services.common.postgres import Pool, transaction
from services.task_manager.event_segments import MAX_BYTES, Archive, pack_segment
from services.task_manager.frames import decode

log = structlog.get_logger()

_TASKS_AT_ONCE = 20
_ROWS_AT_ONCE = 500

_DUE = """
SELECT c.task_id, c.end_time AS noted, t.end_time IS NOT NULL AS has_ended
FROM task_manager.task_compaction c JOIN task_manager.task t ON t.id = c.task_id
WHERE c.end_time <= now() - %(rest)s ORDER BY c.end_time LIMIT %(limit)s
"""
# The frames behind the last segment, as many as fit into one: in order, so the same ones for everybody.
_FRAMES = """
SELECT first_sequence, last_sequence, attempt, payload FROM (
    SELECT first_sequence, last_sequence, attempt, payload,
           sum(octet_length(payload)) OVER (ORDER BY first_sequence) - octet_length(payload) AS bytes_before,
           sum(octet_length(payload)) OVER (ORDER BY first_sequence) AS bytes
    FROM (
        SELECT * FROM task_manager.event_frame
        WHERE task_id = %(id)s AND first_sequence > coalesce(
            (SELECT max(last_sequence) FROM task_manager.event_segment WHERE task_id = %(id)s), 0)
        ORDER BY first_sequence LIMIT %(rows)s
    ) AS candidates
) AS page WHERE bytes_before = 0 OR bytes <= %(bytes)s ORDER BY first_sequence
"""
_COMMIT = """
INSERT INTO task_manager.event_segment (task_id, first_sequence, last_sequence, sha256)
SELECT task_id, %(first)s, %(last)s, %(sha256)s FROM task_manager.event_head WHERE task_id = %(id)s
ON CONFLICT DO NOTHING
"""
_REMOVE = """
DELETE FROM task_manager.event_frame WHERE task_id = %(id)s AND first_sequence IN (
    SELECT first_sequence FROM task_manager.event_frame WHERE task_id = %(id)s AND last_sequence <= (
        SELECT max(last_sequence) FROM task_manager.event_segment WHERE task_id = %(id)s
    ) ORDER BY first_sequence LIMIT %(rows)s
)
"""
# A task that was tried again meanwhile is noted anew at its next end.
_DONE = "DELETE FROM task_manager.task_compaction WHERE task_id = %(id)s AND end_time = %(noted)s"
_LATER = "UPDATE task_manager.task_compaction SET end_time = now() WHERE task_id = %(id)s AND end_time = %(noted)s"
_FORGET_AGAIN = """
INSERT INTO task_manager.forgotten_task (task_id)
SELECT %(id)s::uuid WHERE NOT EXISTS (SELECT FROM task_manager.task WHERE id = %(id)s) ON CONFLICT DO NOTHING
"""
_FORGOTTEN = "SELECT task_id FROM task_manager.forgotten_task LIMIT %(limit)s"


class Compaction:
    """`rest`: how long after its end a task is left alone. Raises Unavailable when Postgres or storage is away."""

    def __init__(self, pool: Pool, archive: Archive, *, rest: datetime.timedelta) -> None:
        self._pool = pool
        self._archive = archive
        self._rest = rest

    async def round(self) -> None:
        """One look at what has rested long enough, and at what was deleted."""
        while due := await self._read(_DUE, {"rest": self._rest, "limit": _TASKS_AT_ONCE}):
            for row in due:
                await self._compact(row["task_id"], row["noted"], has_ended=row["has_ended"])
        for row in await self._read(_FORGOTTEN, {"limit": 10 * _TASKS_AT_ONCE}):
            await self._forget(row["task_id"])

    async def _compact(self, task_id: uuid.UUID, noted: datetime.datetime, *, has_ended: bool) -> None:
        try:
            if has_ended:
                await self._pack(task_id)
        except Unavailable:
            raise
        except ServiceError as error:
            # The others must not wait for it.
            log.warning("task.not_compacted", task_id=str(task_id), reason=error.reason, message=error.message)
            await self._write(_LATER, {"id": task_id, "noted": noted})
        else:
            await self._write(_DONE, {"id": task_id, "noted": noted})

    async def _pack(self, task_id: uuid.UUID) -> None:
        segments = 0
        while frames := await self._read(_FRAMES, {"id": task_id, "rows": _ROWS_AT_ONCE, "bytes": MAX_BYTES}):
            await self._commit(task_id, frames)
            segments += 1
        # Only now: before, a reader would find the events neither here nor there.
        while await self._write(_REMOVE, {"id": task_id, "rows": _ROWS_AT_ONCE}):
            pass
        if segments:
            log.info("task.compacted", task_id=str(task_id), segments=segments)

    async def _commit(self, task_id: uuid.UUID, frames: Sequence[Mapping[str, Any]]) -> None:
        sha256, content = await asyncio.to_thread(_packed, frames)
        await self._archive.put_segment(task_id, sha256, content)
        first, last = frames[0]["first_sequence"], frames[-1]["last_sequence"]
        if not await self._write(_COMMIT, {"id": task_id, "first": first, "last": last, "sha256": sha256}):
            # Somebody else was faster, or has deleted the task before these bytes came.
            await self._write(_FORGET_AGAIN, {"id": task_id})

    async def _forget(self, task_id: uuid.UUID) -> None:
        await self._archive.forget_segments(task_id)
        await self._write("DELETE FROM task_manager.forgotten_task WHERE task_id = %(id)s", {"id": task_id})

    async def _read(self, query: str, parameters: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        async with transaction(self._pool) as connection:
            return await (await connection.execute(query.encode(), parameters)).fetchall()

    async def _write(self, query: str, parameters: Mapping[str, Any]) -> int:
        """Rows that were changed."""
        async with transaction(self._pool) as connection:
            return (await connection.execute(query.encode(), parameters)).rowcount


def _packed(frames: Sequence[Mapping[str, Any]]) -> tuple[str, bytes]:
    rows = (decode(frame["first_sequence"], frame["attempt"], frame["payload"]) for frame in frames)
    return pack_segment([event for events in rows for event in events])
