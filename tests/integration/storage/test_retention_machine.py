"""Sixty days of retention over Postgres and S3: fewer steps, real races."""

import asyncio
import datetime

import pytest
from embedded import S3
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from integration.storage.conftest import postgres_repositories
from unit.storage.retention_machine import RetentionMachine, World

from services.common.postgres import open_pool, transaction
from services.storage.object_store import MinioObjectStore

pytestmark = pytest.mark.integration
EMPTY = """
    TRUNCATE storage.artifact, storage.blob, storage.registered_model, storage.pending_object, storage.orphan_object CASCADE;
    UPDATE storage.artifact_notice_head SET sequence = 0"""


def test_sixty_days_lose_nothing_and_keep_nothing_too_long(postgres_dsn: str, s3: S3) -> None:
    class PostgresMachine(RetentionMachine):
        def make_world(self) -> World:
            self.runner, self.offset = asyncio.Runner(), datetime.timedelta(0)
            return self.runner.run(self.prepare())

        async def prepare(self) -> World:
            self.opening = open_pool(postgres_dsn, application="test")
            self.pool = await self.opening.__aenter__()
            store = MinioObjectStore(s3.endpoint, access_key=s3.access_key, secret_key=s3.secret_key, bucket=s3.bucket)
            await store.prepare()
            for item in await store.list(""):
                await store.remove(item.key)
            async with transaction(self.pool) as connection:
                await connection.execute(EMPTY)
            await self.advance(datetime.timedelta(0))
            return World(postgres_repositories(self.pool), store, self.advance, self.moment, self.runner.run)

        async def advance(self, by: datetime.timedelta) -> None:
            self.offset += by
            body = f"SELECT now() + interval '{self.offset.total_seconds()} seconds'"
            statement = f"CREATE OR REPLACE FUNCTION storage.clock() RETURNS timestamptz LANGUAGE sql STABLE AS $${body}$$"
            async with transaction(self.pool) as connection:
                await connection.execute(statement)

        async def moment(self) -> datetime.datetime:
            async with transaction(self.pool) as connection:
                row = await (await connection.execute("SELECT storage.clock() AS now")).fetchone()
            return row["now"]

        def teardown(self) -> None:
            try:
                super().teardown()
            finally:
                self.runner.run(self.opening.__aexit__(None, None, None))
                self.runner.close()

    limits = settings(max_examples=6, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(PostgresMachine, settings=limits)
