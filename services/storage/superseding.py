"""Ends the checkpoints that a newer one makes superfluous; used by the artifact repository in the transaction of the commit."""

import uuid

from services.common.postgres import Connection
from services.storage.checkpoint_retention import CheckpointFacts, Kept, superseded

# What somebody reads or has pinned stays until a later commit looks again.
_KEPT_SO_FAR = """
    SELECT id, labelled, eval_loss, attempt, pinned OR coalesce(hold_until > storage.clock(), false) AS in_use
    FROM storage.artifact
    WHERE task = %(task)s AND kind = 'CHECKPOINT' AND state = 'AVAILABLE'
    ORDER BY create_time DESC, id DESC"""
# The transaction may have begun, and waited, before another one made what it ends; an end comes after its beginning.
_SUPERSEDE = """
    WITH done AS (
        UPDATE storage.artifact SET state = 'EXPIRED', delete_time = storage.clock(), reason = 'superseded',
            expire_time = least(expire_time, greatest(storage.clock(), create_time + interval '1 microsecond'))
        WHERE id = ANY(%(ids)s) RETURNING id, expire_time
    )
    INSERT INTO storage.artifact_audit (artifact, action, actor, reason, expire_time)
    SELECT id, 'EXPIRE', 'caller', 'superseded', expire_time FROM done"""


async def supersede(connection: Connection, task: uuid.UUID, newest: CheckpointFacts) -> None:
    """Ends what the newest checkpoint makes superfluous; the sweeper takes the bytes."""
    rows = await (await connection.execute(_KEPT_SO_FAR, {"task": task})).fetchall()
    if ended := superseded([Kept(**row) for row in rows], newest.limit, newest.first_attempt):
        await connection.execute(_SUPERSEDE, {"ids": ended})
