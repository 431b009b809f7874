"""Token statistics that were counted once; all their SQL. Used by the analysis of datasets."""

import dataclasses
from typing import Protocol

from psycopg.types.json import Jsonb

from services.common.postgres import Pool, transaction
from services.storage.dataset import Json
from services.storage.rows import first_row

_FIND = """
    SELECT statistics FROM storage.token_statistics
    WHERE rows_sha256 = %(rows_sha256)s AND base_model_revision = %(base_model_revision)s
        AND max_seq_length = %(max_seq_length)s AND renderer = %(renderer)s"""
# The rows may have been deleted while they were counted.
_ADD = """
    INSERT INTO storage.token_statistics (rows_sha256, base_model_revision, max_seq_length, renderer, statistics)
    SELECT sha256, %(base_model_revision)s, %(max_seq_length)s, %(renderer)s, %(statistics)s
    FROM storage.blob WHERE sha256 = %(rows_sha256)s FOR KEY SHARE
    ON CONFLICT DO NOTHING"""


@dataclasses.dataclass(frozen=True, slots=True)
class StatisticsKey:
    """What the counts depend on."""

    rows_sha256: str
    base_model_revision: str
    max_seq_length: int
    renderer: str


class TokenStatisticsRepository(Protocol):
    """What the analysis asks. Every method raises Unavailable (POSTGRES_UNAVAILABLE)."""

    async def find(self, key: StatisticsKey) -> Json | None:
        """What was counted, None when nothing was."""

    async def add(self, key: StatisticsKey, statistics: Json) -> None:
        """Keeps what was counted as long as the rows are kept."""


class PostgresTokenStatisticsRepository:
    """Counts in the schema `storage`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, key: StatisticsKey) -> Json | None:
        """What was counted, None when nothing was."""
        async with transaction(self._pool) as connection:
            row = await first_row(connection, _FIND, dataclasses.asdict(key))
        return row["statistics"] if row else None

    async def add(self, key: StatisticsKey, statistics: Json) -> None:
        """Keeps what was counted as long as the rows are kept."""
        parameters = dataclasses.asdict(key) | {"statistics": Jsonb(dict(statistics))}
        async with transaction(self._pool) as connection:
            await connection.execute(_ADD, parameters)
