"""A process that stands still in the middle of a transaction keeps nobody out for longer than the limit."""

import asyncio
import datetime

import pytest

from services.common.errors import Unavailable
from services.common.postgres import open_pool, session, transaction

pytestmark = pytest.mark.integration


async def test_the_locks_of_a_transaction_that_stands_still_are_given_up(postgres_dsn: str) -> None:
    limit = datetime.timedelta(seconds=1)
    async with (
        open_pool(postgres_dsn, application="still", idle_limit=limit) as still,
        open_pool(postgres_dsn, application="other") as other,
    ):
        async with transaction(other) as connection:
            await connection.execute("CREATE TABLE counter (number int)")
            await connection.execute("INSERT INTO counter VALUES (1)")
        with pytest.raises(Unavailable):
            async with transaction(still) as connection:
                await connection.execute("UPDATE counter SET number = 2")
                async with asyncio.timeout(30), transaction(other) as writer:
                    await writer.execute("UPDATE counter SET number = 3")
                await connection.execute("UPDATE counter SET number = 4")
        async with session(still) as connection:
            row = await (await connection.execute("SELECT number FROM counter")).fetchone()
        assert row == {"number": 3}, "it goes on with a new connection, and what it had written is not there"
