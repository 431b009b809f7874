"""The pool and the migration runner against a real Postgres."""

import asyncio
import pathlib

import psycopg
import pytest

from services.common.errors import Unavailable
from services.common.postgres import MigrationError, migrate, open_pool, transaction
from tests.ports import free_port

pytestmark = pytest.mark.integration


@pytest.fixture
def migrations(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "001_thing.sql").write_text("CREATE TABLE thing (id int PRIMARY KEY)")
    (tmp_path / "002_more.sql").write_text("ALTER TABLE thing ADD COLUMN name text; INSERT INTO thing VALUES (1, 'one')")
    (tmp_path / "notes.txt").write_text("not a migration")
    return tmp_path


async def test_migrations_are_applied_in_order_and_once(postgres_dsn: str, migrations: pathlib.Path) -> None:
    assert await migrate(postgres_dsn, "example", migrations) == 2
    assert await migrate(postgres_dsn, "example", migrations) == 0
    async with open_pool(postgres_dsn, application="test") as pool, transaction(pool) as connection:
        cursor = await connection.execute("SELECT id, name FROM example.thing")
        assert await cursor.fetchall() == [{"id": 1, "name": "one"}]


async def test_a_later_migration_is_added(postgres_dsn: str, migrations: pathlib.Path) -> None:
    await migrate(postgres_dsn, "example", migrations)
    (migrations / "003_last.sql").write_text("DROP TABLE thing")
    assert await migrate(postgres_dsn, "example", migrations) == 1


async def test_processes_that_start_at_once_apply_each_migration_once(postgres_dsn: str, migrations: pathlib.Path) -> None:
    counts = await asyncio.gather(*(migrate(postgres_dsn, "example", migrations) for _ in range(4)))
    assert sorted(counts) == [0, 0, 0, 2]


async def test_an_edited_migration_is_refused_by_name(postgres_dsn: str, migrations: pathlib.Path) -> None:
    await migrate(postgres_dsn, "example", migrations)
    (migrations / "001_thing.sql").write_text("CREATE TABLE other (id int)")
    with pytest.raises(MigrationError, match="001_thing"):
        await migrate(postgres_dsn, "example", migrations)


async def test_a_failing_migration_leaves_nothing_behind(postgres_dsn: str, migrations: pathlib.Path) -> None:
    (migrations / "003_bad.sql").write_text("CREATE TABLE half (id int); SELECT nonsense")
    with pytest.raises(psycopg.errors.UndefinedColumn):
        await migrate(postgres_dsn, "example", migrations)
    (migrations / "003_bad.sql").write_text("CREATE TABLE half (id int)")
    assert await migrate(postgres_dsn, "example", migrations) == 1


async def test_a_transaction_rolls_back_when_the_block_fails(postgres_dsn: str, migrations: pathlib.Path) -> None:
    await migrate(postgres_dsn, "example", migrations)
    async with open_pool(postgres_dsn, application="test") as pool:
        with pytest.raises(ZeroDivisionError):
            async with transaction(pool) as connection:
                await connection.execute("DELETE FROM example.thing")
                raise ZeroDivisionError
        async with transaction(pool) as connection:
            cursor = await connection.execute("SELECT count(*) AS count FROM example.thing")
            assert await cursor.fetchall() == [{"count": 1}]


async def test_a_connection_killed_under_the_pool_is_unavailable_once_and_then_replaced(postgres_dsn: str) -> None:
    async with open_pool(postgres_dsn, application="test") as pool:
        with pytest.raises(Unavailable) as caught:
            async with transaction(pool) as connection:
                await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        assert caught.value.reason == "POSTGRES_UNAVAILABLE"
        async with transaction(pool) as connection:
            cursor = await connection.execute("SELECT 1 AS one")
            assert await cursor.fetchone() == {"one": 1}


async def test_constraint_violations_are_not_mistaken_for_an_outage(postgres_dsn: str, migrations: pathlib.Path) -> None:
    await migrate(postgres_dsn, "example", migrations)
    async with open_pool(postgres_dsn, application="test") as pool:
        with pytest.raises(psycopg.errors.UniqueViolation):
            async with transaction(pool) as connection:
                await connection.execute("INSERT INTO example.thing VALUES (1, 'again')")


async def test_a_postgres_that_is_away_is_unavailable(postgres_dsn: str) -> None:
    away = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    async with open_pool(away, application="test") as pool:
        with pytest.raises(Unavailable) as caught:
            async with transaction(pool):
                pass
    assert caught.value.hint


async def test_a_connection_that_postgres_has_closed_is_replaced_before_it_is_used(postgres_dsn: str) -> None:
    async with open_pool(postgres_dsn, application="cut", max_size=1) as pool:
        async with transaction(pool) as connection:
            await connection.execute("SELECT 1")
        async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as other:
            query = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'cut'"
            assert await (await other.execute(query)).fetchall() == [(True,)]
        async with transaction(pool) as connection:
            cursor = await connection.execute("SELECT 2 AS two")
            assert await cursor.fetchall() == [{"two": 2}]
