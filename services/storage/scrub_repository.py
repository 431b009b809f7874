"""Which stored bytes are to be read again, and what was found; all its SQL. Used by the scrubber and by downloads.

The position of a pass is kept in the rows: what was read longest ago comes next, whoever asks and however often it restarts.
"""

import datetime
from typing import Protocol

from services.common.postgres import Pool, transaction
from services.storage.notice import Notice
from services.storage.notice_repository import announce_damaged
from services.storage.rows import first_row
from services.storage.scrub import MAX_DAMAGES, Damage, ScrubStatus, StoredContent

# Of blobs and of segments of events, whatever was read longest ago. A union takes no locks, so each has a candidate of its own.
_TAKE = """
    WITH due_blob AS (
        SELECT check_time, object_key FROM storage.blob
        WHERE check_time <= storage.clock() - CASE WHEN damage = '' THEN %(interval)s ELSE least(%(interval)s, %(doubt)s) END
            AND (checking_until IS NULL OR checking_until <= storage.clock())
        ORDER BY check_time, object_key LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    ), due_segment AS (
        SELECT check_time, object_key FROM storage.event_segment
        WHERE check_time <= storage.clock() - CASE WHEN damage = '' THEN %(interval)s ELSE least(%(interval)s, %(doubt)s) END
            AND (checking_until IS NULL OR checking_until <= storage.clock())
        ORDER BY check_time, object_key LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    ), due AS (
        SELECT * FROM due_blob UNION ALL SELECT * FROM due_segment ORDER BY check_time, object_key LIMIT 1
    ), blob AS (
        UPDATE storage.blob SET checking_until = storage.clock() + %(lease)s + make_interval(secs => size_bytes / %(rate)s)
        WHERE object_key IN (SELECT object_key FROM due) RETURNING sha256, size_bytes, object_key
    ), segment AS (
        UPDATE storage.event_segment
        SET checking_until = storage.clock() + %(lease)s + make_interval(secs => size_bytes / %(rate)s)
        WHERE object_key IN (SELECT object_key FROM due) RETURNING sha256, size_bytes, object_key
    )
    SELECT * FROM blob UNION ALL SELECT * FROM segment"""
_GIVE_BACK = """
    WITH segment AS (
        UPDATE storage.event_segment SET checking_until = storage.clock() + %(pause)s WHERE object_key = %(object_key)s
    )
    UPDATE storage.blob SET checking_until = storage.clock() + %(pause)s WHERE object_key = %(object_key)s"""
# An object that was replaced meanwhile is not the one that was read.
_RECORD = """
    WITH segment AS (
        UPDATE storage.event_segment SET check_time = storage.clock(), checking_until = NULL, damage = %(damage)s
        WHERE object_key = %(object_key)s
    )
    UPDATE storage.blob AS blob SET check_time = storage.clock(), checking_until = NULL, damage = %(damage)s,
        blake3 = coalesce(nullif(%(blake3)s, ''), blob.blake3)
    FROM (SELECT damage FROM storage.blob WHERE object_key = %(object_key)s FOR NO KEY UPDATE) AS before
    WHERE blob.object_key = %(object_key)s
    RETURNING before.damage AS before"""
_STATUS = """
    SELECT count(*) AS content_count, coalesce(sum(size_bytes), 0)::bigint AS size_bytes, min(check_time) AS oldest_check_time,
        coalesce(sum(size_bytes) FILTER (WHERE check_time <= storage.clock() - %(interval)s), 0)::bigint AS overdue_bytes
    FROM (
        SELECT size_bytes, check_time FROM storage.blob UNION ALL SELECT size_bytes, check_time FROM storage.event_segment
    ) AS content"""
_DAMAGES = """
    SELECT sha256, size_bytes, damage, check_time, ARRAY(
        SELECT 'artifacts/' || artifact FROM storage.artifact_file AS file WHERE file.sha256 = blob.sha256
        UNION SELECT 'baseModels/' || base_model FROM storage.base_model_file AS file WHERE file.sha256 = blob.sha256
        UNION SELECT 'datasets/' || dataset FROM storage.dataset_file AS file WHERE file.sha256 = blob.sha256
        UNION SELECT 'models/' || model || '/versions/' || version FROM storage.model_version_file AS file
            WHERE file.sha256 = blob.sha256
        ORDER BY 1
    ) AS owners
    FROM storage.blob WHERE damage <> ''
    UNION ALL SELECT sha256, size_bytes, damage, check_time, ARRAY['tasks/' || task] FROM storage.event_segment WHERE damage <> ''
    ORDER BY sha256, owners LIMIT %(limit)s"""
DOUBT = datetime.timedelta(days=1)
"""What is damaged is read again after so long: somebody may have restored it."""
_LEASE = datetime.timedelta(minutes=10)


class ScrubRepository(Protocol):
    """What the scrubber asks. Every method raises Unavailable (POSTGRES_UNAVAILABLE)."""

    async def take(self, interval: datetime.timedelta, bytes_per_second: int) -> StoredContent | None:
        """What was last read longest ago, at least `interval`, or DOUBT when it is damaged; None = nothing is due.

        Nobody else gets it while it is read.
        """

    async def give_back(self, content: StoredContent, pause: datetime.timedelta) -> None:
        """It could not be read now; it is due again after the pause."""

    async def record(self, content: StoredContent, damage: str, blake3: str = "") -> tuple[Notice, ...]:
        """It was read: `damage` says what is wrong, empty = nothing, `blake3` is its checksum if that was computed.

        Returns the announcements that this made.
        """

    async def status(self, interval: datetime.timedelta) -> ScrubStatus:
        """How far a pass is, and everything damaged."""


class PostgresScrubRepository:
    """Checks in the schema `storage`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def take(self, interval: datetime.timedelta, bytes_per_second: int) -> StoredContent | None:
        """What was last read longest ago; see ScrubRepository."""
        parameters = {"interval": interval, "doubt": DOUBT, "lease": _LEASE, "rate": bytes_per_second}
        async with transaction(self._pool) as connection:
            row = await first_row(connection, _TAKE, parameters)
        return StoredContent(**row) if row else None

    async def give_back(self, content: StoredContent, pause: datetime.timedelta) -> None:
        """It could not be read now."""
        async with transaction(self._pool) as connection:
            await connection.execute(_GIVE_BACK, {"object_key": content.object_key, "pause": pause})

    async def record(self, content: StoredContent, damage: str, blake3: str = "") -> tuple[Notice, ...]:
        """It was read; see ScrubRepository. Damage that was known is not announced again."""
        async with transaction(self._pool) as connection:
            row = await first_row(connection, _RECORD, {"object_key": content.object_key, "damage": damage, "blake3": blake3})
            if row is None or not damage or row["before"]:
                return ()
            return await announce_damaged(connection, content.sha256)

    async def status(self, interval: datetime.timedelta) -> ScrubStatus:
        """How far a pass is, and everything damaged."""
        async with transaction(self._pool) as connection:
            row = await first_row(connection, _STATUS, {"interval": interval})
            assert row is not None, "an aggregate has a row"
            damages = await (await connection.execute(_DAMAGES, {"limit": MAX_DAMAGES})).fetchall()
        found = tuple(Damage(**(damage | {"owners": tuple(damage["owners"])})) for damage in damages)
        return ScrubStatus(**row, damages=found)
