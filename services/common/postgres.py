"""The Postgres pool, transactions that speak the error tree, and the migration runner; used by task_manager and storage."""

import asyncio
import contextlib
import datetime
import hashlib
import pathlib
import selectors
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import structlog
from psycopg import sql
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from services.common.errors import Unavailable
from services.common.failpoints import failpoint

log = structlog.get_logger()

Connection = psycopg.AsyncConnection[DictRow]
Pool = AsyncConnectionPool[Connection]

# Any constant will do as long as every service of the product uses the same one.
_MIGRATION_LOCK = 7_163_912_204

# For so long the pool doubles the pause between two tries to connect; then whoever asks it makes it begin anew. Without an end to
# it, Postgres could be back for as long as it was away before anybody looked.
_RECONNECT_SECONDS = 5.0

_IDLE_LIMIT = datetime.timedelta(seconds=15)
_GONE = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.IdleInTransactionSessionTimeout, PoolTimeout)


class MigrationError(Exception):
    """The database was migrated by other code than this: an applied migration has changed or is unknown."""


@contextlib.asynccontextmanager
async def open_pool(
    dsn: str, *, application: str, max_size: int = 8, idle_limit: datetime.timedelta = _IDLE_LIMIT
) -> AsyncIterator[Pool]:
    """A pool of autocommit connections with dict rows; connections that broke are replaced before use.

    `idle_limit`: Postgres itself ends a transaction in which nothing comes for so long. A process that stands still, or whose
    machine is gone without a word, would otherwise keep its locks, and what is locked is adopted by nobody.
    """

    async def limit(connection: Connection) -> None:
        await connection.execute(
            "SELECT set_config('idle_in_transaction_session_timeout', %s, false)", [str(round(idle_limit.total_seconds() * 1000))]
        )

    pool: Pool = AsyncConnectionPool(
        dsn,
        min_size=1,
        max_size=max_size,
        timeout=5.0,
        reconnect_timeout=_RECONNECT_SECONDS,
        open=False,
        kwargs={"autocommit": True, "row_factory": dict_row, "application_name": application, "connect_timeout": 5},
        configure=limit,
        check=_check,
    )
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close()


async def _check(connection: Connection) -> None:
    """Raises OperationalError for a connection that Postgres has closed; asks it only when it has said something unasked."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection.fileno(), selectors.EVENT_READ)
        has_said_something = bool(selector.select(timeout=0))
    if has_said_something:
        await AsyncConnectionPool.check_connection(connection)


@contextlib.asynccontextmanager
async def session(pool: Pool) -> AsyncIterator[Connection]:
    """A connection of one's own, each statement by itself; raises Unavailable when Postgres cannot be reached or gives up."""
    try:
        async with pool.connection() as connection:
            yield connection
    except _GONE as error:
        raise Unavailable("POSTGRES_UNAVAILABLE", f"Postgres did not answer: {_first_line(error)}") from error


@contextlib.asynccontextmanager
async def transaction(pool: Pool, name: str = "") -> AsyncIterator[Connection]:
    """One short transaction; raises Unavailable when Postgres cannot be reached or gives up in the middle.

    `name`: of its failpoints; empty = it has none.
    """
    async with session(pool) as connection:
        async with connection.transaction():
            yield connection
            failpoint(f"{name}.commit")
        failpoint(f"{name}.committed")


async def migrate(dsn: str, schema: str, directory: pathlib.Path) -> int:
    """Applies the numbered `NNN_name.sql` files that `schema` lacks, in order, each in a transaction; returns how many.

    Several processes may start at once: an advisory lock lets one work. Raises MigrationError when an applied file has changed.
    """
    files = sorted(await asyncio.to_thread(lambda: list(directory.glob("[0-9][0-9][0-9]_*.sql"))))
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True, connect_timeout=5) as connection:
        await connection.execute("SELECT pg_advisory_lock(%s)", (_MIGRATION_LOCK,))
        await connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        await connection.execute(
            sql.SQL(
                "CREATE TABLE IF NOT EXISTS {}.schema_migration (version int PRIMARY KEY, name text NOT NULL,"
                " checksum text NOT NULL, apply_time timestamptz NOT NULL DEFAULT now())"
            ).format(sql.Identifier(schema))
        )
        applied = await _applied(connection, schema)
        return await _apply_missing(connection, schema, files, applied)


async def _applied(connection: psycopg.AsyncConnection[Any], schema: str) -> dict[int, str]:
    query = sql.SQL("SELECT version, checksum FROM {}.schema_migration").format(sql.Identifier(schema))
    return {version: checksum async for version, checksum in await connection.execute(query)}


async def _apply_missing(
    connection: psycopg.AsyncConnection[Any], schema: str, files: list[pathlib.Path], applied: dict[int, str]
) -> int:
    count = 0
    record = sql.SQL("INSERT INTO {}.schema_migration (version, name, checksum) VALUES (%s, %s, %s)")
    for file in files:
        text = file.read_text()
        version, checksum = int(file.name[:3]), hashlib.sha256(text.encode()).hexdigest()
        if version in applied:
            if applied[version] != checksum:
                raise MigrationError(f"{schema}: {file.name} is not the file that was applied; migrations are never edited")
            continue
        async with connection.transaction():
            await connection.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(schema)))
            await connection.execute(text.encode())
            await connection.execute(record.format(sql.Identifier(schema)), (version, file.name, checksum))
        log.info("migration.applied", schema=schema, file=file.name)
        count += 1
    return count


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
