"""The first row of a query; used by the repositories."""

from typing import Any, LiteralString

from psycopg.rows import DictRow

from services.common.postgres import Connection


async def first_row(connection: Connection, query: LiteralString, parameters: dict[str, Any]) -> DictRow | None:
    """The first row, None when there is none."""
    return await (await connection.execute(query, parameters)).fetchone()
