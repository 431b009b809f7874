"""Evals in Postgres; used by evals."""

import datetime
import uuid
from typing import Any

from psycopg.types.json import Jsonb

from services.common.errors import NotFound
from services.common.postgres import Pool, transaction
from services.task_manager.domain.eval import Eval, EvalUpdate, NewEval

# The request's own id in place of itself: a repeat is told the row that is there.
_INSERT = """
INSERT INTO task_manager.eval (request_id, display_name, data_source_config, testing_criteria, labels)
VALUES (%(request_id)s, %(display_name)s, %(data_source_config)s, %(testing_criteria)s, %(labels)s)
ON CONFLICT (request_id) DO UPDATE SET request_id = excluded.request_id
RETURNING *
"""
_GET = "SELECT * FROM task_manager.eval WHERE id = %(id)s"
_UPDATE = """
UPDATE task_manager.eval SET display_name = coalesce(%(display_name)s, display_name), labels = coalesce(%(labels)s, labels),
    update_time = now()
WHERE id = %(id)s RETURNING *
"""
_DELETE = "DELETE FROM task_manager.eval WHERE id = %(id)s RETURNING *"
_OLDEST_FIRST = """
SELECT * FROM task_manager.eval
WHERE %(time)s::timestamptz IS NULL OR (create_time, id) > (%(time)s::timestamptz, %(id)s::uuid)
ORDER BY create_time, id LIMIT %(size)s
"""
_NEWEST_FIRST = """
SELECT * FROM task_manager.eval
WHERE %(time)s::timestamptz IS NULL OR (create_time, id) < (%(time)s::timestamptz, %(id)s::uuid)
ORDER BY create_time DESC, id DESC LIMIT %(size)s
"""

Position = tuple[datetime.datetime, uuid.UUID]
"""The place of an eval in the list: when it was created, and its id."""


class EvalRepository:
    """One method per question; every method is one transaction and raises Unavailable when Postgres is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(self, new: NewEval, request_id: uuid.UUID | None) -> Eval:
        """Keeps it; a repeat of a request returns the first."""
        values = {
            "request_id": request_id,
            "display_name": new.display_name,
            "data_source_config": new.data_source_config,
            "testing_criteria": new.testing_criteria,
            "labels": Jsonb(dict(new.labels)),
        }
        return _eval(await self._row(_INSERT, values))

    async def get(self, eval_id: uuid.UUID) -> Eval:
        """One; raises NotFound."""
        return _found(eval_id, await self._row(_GET, {"id": eval_id}))

    async def update(self, eval_id: uuid.UUID, update: EvalUpdate) -> Eval:
        """Changes what is given; raises NotFound."""
        labels = None if update.labels is None else Jsonb(dict(update.labels))
        return _found(eval_id, await self._row(_UPDATE, {"id": eval_id, "display_name": update.display_name, "labels": labels}))

    async def delete(self, eval_id: uuid.UUID) -> None:
        """Forgets it; raises NotFound."""
        _found(eval_id, await self._row(_DELETE, {"id": eval_id}))

    async def page(self, after: Position | None, size: int, *, newest_first: bool) -> list[Eval]:
        """At most `size` behind `after`, in order of creation."""
        query = _NEWEST_FIRST if newest_first else _OLDEST_FIRST
        time, eval_id = after or (None, None)
        async with transaction(self._pool) as connection:
            rows = await (await connection.execute(query, {"time": time, "id": eval_id, "size": size})).fetchall()
        return [_eval(row) for row in rows]

    async def _row(self, query: str, values: dict[str, Any]) -> Any:
        async with transaction(self._pool) as connection:
            return await (await connection.execute(query, values)).fetchone()


def _found(eval_id: uuid.UUID, row: Any) -> Eval:
    if row is None:
        raise NotFound("EVAL_NOT_FOUND", f"evals/{eval_id}")
    return _eval(row)


def _eval(row: Any) -> Eval:
    return Eval(**{name: value for name, value in row.items() if name != "request_id"})
