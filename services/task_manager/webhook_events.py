"""Events for webhooks in Postgres: the database writes them with the change they tell; used by the delivery."""

import dataclasses
import datetime
from collections.abc import Collection, Sequence

from services.common.postgres import Pool, transaction
from services.task_manager.domain.webhook import ArtifactNotice, WebhookEvent

# The one endpoint there is; the table knows no address.
_ID = "default"
_KEPT = datetime.timedelta(days=30)

_CONFIGURE = """
INSERT INTO task_manager.webhook (id, kinds) VALUES (%(id)s, %(kinds)s::text[])
ON CONFLICT (id) DO UPDATE SET kinds = excluded.kinds
"""
# Whoever takes an event has it for as long as the delivery may last; then it is due again.
_TAKE = """
UPDATE task_manager.webhook_event SET tries = tries + 1, due_time = now() + %(lease)s WHERE id IN (
    SELECT id FROM task_manager.webhook_event WHERE due_time <= now() ORDER BY due_time LIMIT %(limit)s FOR UPDATE SKIP LOCKED
) RETURNING id, kind, task_id, attempt, create_time, tries, artifact, days, expire_time
"""
_RECORD = """
UPDATE task_manager.webhook_event SET outcome = %(outcome)s,
    due_time = CASE WHEN %(again)s THEN now() + %(rest)s END, end_time = CASE WHEN NOT %(again)s THEN now() END
WHERE id = %(id)s AND tries = %(tries)s
"""
_BEGIN_NEWS = "INSERT INTO task_manager.artifact_news (id, last_sequence) VALUES (%(id)s, %(last)s) ON CONFLICT DO NOTHING"
_HEARD = "SELECT last_sequence FROM task_manager.artifact_news WHERE id = %(id)s"
_HEAR = """
UPDATE task_manager.artifact_news SET last_sequence = %(last)s WHERE id = %(id)s AND last_sequence = %(before)s RETURNING id
"""
_ANNOUNCE = """
INSERT INTO task_manager.webhook_event (webhook, kind, task_id, attempt, artifact, days, expire_time)
SELECT w.id, %(kind)s, %(task)s, 0, %(artifact)s, %(days)s, %(expire_time)s FROM task_manager.webhook w
WHERE %(kind)s = ANY (w.kinds)
"""
_TIDY = "DELETE FROM task_manager.webhook_event WHERE end_time < now() - %(kept)s"


class WebhookEvents:
    """Every method is one transaction and raises Unavailable when Postgres is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def configure(self, kinds: Collection[str]) -> None:
        """From now on events of these kinds are written; none = no events, and those that wait are dropped."""
        async with transaction(self._pool) as connection:
            if kinds:
                await connection.execute(_CONFIGURE, {"id": _ID, "kinds": sorted(kinds)})
            else:
                await connection.execute("DELETE FROM task_manager.webhook")
                await connection.execute("DELETE FROM task_manager.webhook_event WHERE due_time IS NOT NULL")
                await connection.execute("DELETE FROM task_manager.artifact_news")

    async def heard(self) -> int | None:
        """Number of the last announcement about artifacts that was written; None = nobody has asked for them yet."""
        async with transaction(self._pool) as connection:
            row = await (await connection.execute(_HEARD, {"id": _ID})).fetchone()
        return row["last_sequence"] if row else None

    async def hear(self, before: int | None, last: int, notices: Sequence[ArtifactNotice]) -> None:
        """Writes announcements up to number `last`, unless somebody else has written what came after `before`."""
        numbers = {"id": _ID, "before": before, "last": last}
        async with transaction(self._pool) as connection:
            if before is None:
                await connection.execute(_BEGIN_NEWS, numbers)
            elif await (await connection.execute(_HEAR, numbers)).fetchone():
                for notice in notices:
                    await connection.execute(_ANNOUNCE, dataclasses.asdict(notice))

    async def take(self, limit: int, lease: datetime.timedelta) -> list[WebhookEvent]:
        """Events that are due, oldest first; nobody else gets them for the time of the lease."""
        async with transaction(self._pool) as connection:
            rows = await (await connection.execute(_TAKE, {"limit": limit, "lease": lease})).fetchall()
        return sorted((WebhookEvent(**row) for row in rows), key=lambda event: event.create_time)

    async def record(self, event: WebhookEvent, outcome: str, rest: datetime.timedelta | None) -> None:
        """What a delivery came to; `rest`: how long until the next, None = there is none."""
        parameters = {"id": event.id, "tries": event.tries, "outcome": outcome, "again": rest is not None}
        async with transaction(self._pool) as connection:
            await connection.execute(_RECORD, parameters | {"rest": rest or datetime.timedelta()})

    async def tidy(self) -> None:
        """Forgets what ended 30 days ago."""
        async with transaction(self._pool) as connection:
            await connection.execute(_TIDY, {"kept": _KEPT})
