"""Rows of announcements; all their SQL. Used by the sweep, the scrubber and the artifact servicer."""

import uuid
from collections.abc import Sequence
from typing import Any, LiteralString, Protocol

from services.common.postgres import Connection, Pool, transaction
from services.storage.notice import Notice
from services.storage.retention import NOTICE_DAYS

_COLUMNS = "notice.sequence, notice.kind, notice.artifact, artifact.task, notice.days, notice.expire_time, notice.path, \
notice.damage, notice.create_time"
_PAGE = f"""
    SELECT {_COLUMNS} FROM storage.artifact_notice AS notice JOIN storage.artifact ON artifact.id = notice.artifact
    WHERE notice.sequence > %(after)s AND (%(task)s::uuid IS NULL OR artifact.task = %(task)s)
    ORDER BY notice.sequence LIMIT %(limit)s"""  # noqa: S608 - constants only
# Numbers are given under the lock of the head row, so a reader that has seen one will see none before it.
_INSERT = f"""
    WITH due AS (
        SELECT due.*, row_number() OVER (ORDER BY due.expire_time, due.artifact, due.path) AS position FROM ({{due}}) AS due
    ), head AS (
        UPDATE storage.artifact_notice_head SET sequence = sequence + (SELECT count(*) FROM due) RETURNING sequence
    ), notice AS (
        INSERT INTO storage.artifact_notice (sequence, kind, artifact, expire_time, days, path, damage)
        SELECT head.sequence - (SELECT count(*) FROM due) + due.position, due.kind, due.artifact, due.expire_time, due.days,
            due.path, due.damage
        FROM due CROSS JOIN head
        RETURNING *
    )
    SELECT {_COLUMNS} FROM notice JOIN storage.artifact ON artifact.id = notice.artifact ORDER BY notice.sequence"""  # noqa: S608
_EXPIRING = """
    SELECT 'EXPIRING' AS kind, artifact.id AS artifact, artifact.expire_time, due.days, '' AS path, '' AS damage
    FROM storage.artifact CROSS JOIN LATERAL (
        SELECT min(days) AS days FROM unnest(%(days)s::int[]) AS days
        WHERE artifact.expire_time - make_interval(days => days) <= storage.clock()
    ) AS due
    WHERE artifact.state = 'AVAILABLE' AND artifact.due_time > storage.clock() AND artifact.expire_time > storage.clock()
        AND artifact.expire_time > artifact.create_time + make_interval(days => due.days)
        AND NOT EXISTS (
            SELECT FROM storage.artifact_notice AS made
            WHERE (made.artifact, made.expire_time, made.days, made.kind)
                = (artifact.id, artifact.expire_time, due.days, 'EXPIRING')
        )"""
_DAMAGED = """
    SELECT 'DAMAGED' AS kind, artifact.id AS artifact, artifact.expire_time, 0 AS days, file.path, blob.damage
    FROM storage.blob JOIN storage.artifact_file AS file USING (sha256) JOIN storage.artifact ON artifact.id = file.artifact
    WHERE blob.sha256 = %(sha256)s AND blob.damage <> ''"""
_ANNOUNCE_EXPIRING: LiteralString = _INSERT.format(due=_EXPIRING)
_ANNOUNCE_DAMAGED: LiteralString = _INSERT.format(due=_DAMAGED)
_LOCK = "SELECT FROM storage.artifact_notice_head FOR UPDATE"


class NoticeRepository(Protocol):
    """What readers of announcements ask."""

    async def page(self, limit: int, after: int, task: uuid.UUID | None) -> Sequence[Notice]:
        """At most `limit` announcements with numbers above `after`; raises Unavailable (POSTGRES_UNAVAILABLE)."""


class PostgresNoticeRepository:
    """Announcements in the schema `storage`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(self, limit: int, after: int, task: uuid.UUID | None) -> list[Notice]:
        """At most `limit` announcements with numbers above `after`, oldest first."""
        async with transaction(self._pool) as connection:
            rows = await connection.execute(_PAGE, {"limit": limit, "after": after, "task": task})
            return [Notice(**row) async for row in rows]


async def announce_expiring(connection: Connection) -> tuple[Notice, ...]:
    """Announces every end that is near and was not announced yet, in the caller's transaction."""
    return await _announce(connection, _ANNOUNCE_EXPIRING, {"days": list(NOTICE_DAYS)})


async def announce_damaged(connection: Connection, sha256: str) -> tuple[Notice, ...]:
    """Announces the damage of a content to every artifact that has it, in the caller's transaction."""
    return await _announce(connection, _ANNOUNCE_DAMAGED, {"sha256": sha256})


async def _announce(connection: Connection, query: LiteralString, parameters: dict[str, Any]) -> tuple[Notice, ...]:
    # A statement of its own: what another announcer has written is seen only by one that begins after its end.
    await connection.execute(_LOCK)
    rows = await (await connection.execute(query, parameters)).fetchall()
    return tuple(Notice(**row) for row in rows)
