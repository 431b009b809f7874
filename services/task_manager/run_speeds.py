"""How fast runs were, in Postgres: written when a run ends, read by plans."""

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from services.common.postgres import Connection, Pool, transaction
from services.task_manager.domain.throughput import RunKind, RunSpeed

_NEWEST = 100
_SELECT = """
SELECT base_model, method, tuning, processes, precision, lora_rank, target_modules, batch_size, tokens_per_second
FROM task_manager.run_speed WHERE base_model = %(base_model)s ORDER BY create_time DESC LIMIT %(newest)s
"""
_INSERT = """
INSERT INTO task_manager.run_speed (
    task_id, attempt, base_model, method, tuning, processes, precision, lora_rank, target_modules, batch_size, tokens_per_second
) VALUES (
    %(task_id)s, %(attempt)s, %(base_model)s, %(method)s, %(tuning)s, %(processes)s, %(precision)s, %(lora_rank)s,
    %(target_modules)s, %(batch_size)s, %(tokens_per_second)s
) ON CONFLICT (task_id, attempt) DO NOTHING
"""


class RunSpeeds:
    """What earlier runs were like; raises Unavailable when Postgres is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def of(self, base_model: str) -> Sequence[RunSpeed]:
        """The newest runs of a base model, at most 100; newest first."""
        async with transaction(self._pool) as connection:
            rows = await (await connection.execute(_SELECT, {"base_model": base_model, "newest": _NEWEST})).fetchall()
        return [_run_speed(row) for row in rows]


async def record(connection: Connection, task_id: uuid.UUID, attempt: int, speed: RunSpeed) -> None:
    """Keeps how fast an attempt was; the first record of it stays."""
    parameters = dataclasses.asdict(speed.kind) | {"target_modules": list(speed.kind.target_modules)}
    parameters |= {"task_id": task_id, "attempt": attempt, "tokens_per_second": speed.tokens_per_second}
    await connection.execute(_INSERT, parameters)


def _run_speed(row: Mapping[str, Any]) -> RunSpeed:
    kind = {field.name: row[field.name] for field in dataclasses.fields(RunKind)}
    return RunSpeed(RunKind(**kind | {"target_modules": tuple(row["target_modules"])}), row["tokens_per_second"])
