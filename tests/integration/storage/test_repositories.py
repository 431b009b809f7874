"""The repositories in Postgres, and what only a database can get wrong."""

import asyncio
import uuid
from pathlib import Path

import psycopg
import pytest
from integration.storage.conftest import postgres_repositories
from unit.storage.repository_suite import (
    RepositorySuite,
    add_dataset,
    artifact_draft,
    dataset_draft,
    due,
    keys,
    model_draft,
)
from unit.storage.service import sha256

from services import storage
from services.common.postgres import Pool, migrate, open_pool, transaction
from services.storage.artifact import ArtifactFilter
from services.storage.position import Position
from services.storage.registration import Repositories

pytestmark = pytest.mark.integration

MIGRATIONS = Path(storage.__file__).with_name("migrations")


class TestRepositories(RepositorySuite):
    """All rules of the suite."""


async def execute(pool: Pool, statement: str) -> None:
    async with transaction(pool) as connection:
        await connection.execute(statement)


async def test_items_of_the_same_instant_are_all_listed(repositories: Repositories, pool: Pool) -> None:
    for number in range(1, 8):
        await add_dataset(repositories, dataset_draft(number))
        await repositories.artifacts.add(artifact_draft(number), await keys(repositories, "one"))
    await execute(pool, "UPDATE storage.dataset SET create_time = '2026-01-01Z'")
    await execute(pool, "UPDATE storage.artifact SET create_time = '2026-01-01Z'")
    pages = (repositories.datasets.page, lambda limit, after: repositories.artifacts.page(limit, after, ArtifactFilter()))
    for page in pages:
        seen, after = [], None
        while found := await page(2, after):
            seen += [row.id.int for row in found]
            after = Position(found[-1].create_time, found[-1].id)
        assert seen == [7, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE storage.dataset SET display_name = ''",
        "UPDATE storage.dataset SET size_bytes = 0",
        "UPDATE storage.dataset SET sha256 = 'ABC'",
        "UPDATE storage.dataset SET example_count = 0",
        "UPDATE storage.dataset SET version = 0",
        "UPDATE storage.dataset SET format = 'FORMAT_UNSPECIFIED'",
        "UPDATE storage.dataset SET deletion = id",
        "UPDATE storage.dataset_file SET content = 'OTHER'",
        "UPDATE storage.row_index SET every = 0",
        "UPDATE storage.row_index SET offsets = '1234567'",
        "UPDATE storage.artifact SET state = 'UPLOADING'",
        "UPDATE storage.artifact SET kind = 'KIND_UNSPECIFIED'",
        "UPDATE storage.artifact SET epoch = 0",
        "UPDATE storage.artifact SET expire_time = create_time",
        "UPDATE storage.artifact SET request_id = ''",
        "UPDATE storage.base_model SET id = 'Big'",
        "UPDATE storage.base_model SET parameter_count = -1",
        "UPDATE storage.base_model SET revision = ''",
        "UPDATE storage.artifact_epoch SET epoch = 0",
        "UPDATE storage.blob SET size_bytes = -1",
    ],
)
async def test_the_database_keeps_the_rules_itself(repositories: Repositories, pool: Pool, statement: str) -> None:
    await add_dataset(repositories, dataset_draft())
    await repositories.artifacts.add(artifact_draft(), await keys(repositories, "one"))
    await repositories.models.add(model_draft(), await keys(repositories, "one"))
    with pytest.raises(psycopg.errors.CheckViolation):
        await execute(pool, statement)


async def test_a_failed_commit_leaves_neither_rows_nor_a_raised_fence(repositories: Repositories) -> None:
    taken = await repositories.artifacts.add(artifact_draft(1), await keys(repositories, "one"))
    with pytest.raises(psycopg.errors.UniqueViolation):
        await repositories.artifacts.add(artifact_draft(1, epoch=9, request_id="other"), await keys(repositories, "two"))
    assert await repositories.artifacts.find(taken.task, 1, "result 1") == taken
    assert await repositories.artifacts.page(10, None, ArtifactFilter()) == [taken]


async def test_many_pools_of_work_do_not_wait_for_each_other_in_a_ring(repositories: Repositories) -> None:
    async def artifact(number: int) -> None:
        draft = artifact_draft(number, task=uuid.UUID(int=number))
        await repositories.artifacts.add(draft, await keys(repositories, f"artifact-{number}"))

    async def model(number: int) -> None:
        draft = model_draft(f"m{number}", files=tuple(reversed(model_draft().files)))
        await repositories.models.add(draft, await keys(repositories, f"model-{number}"))

    await asyncio.gather(*(work(number) for number in range(1, 13) for work in (artifact, model)))
    assert len(await repositories.blobs.known([sha256(b"a"), sha256(b"z")])) == 2


async def test_several_services_may_start_at_once_on_an_empty_database(empty_dsn: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_dsn, "storage", MIGRATIONS) for _ in range(4)))
    assert sorted(applied) == [0, 0, 0, len(list(MIGRATIONS.glob("*.sql")))]


async def test_datasets_of_before_have_versions_formats_and_files(empty_dsn: str, tmp_path: Path) -> None:
    (tmp_path / "001_initial.sql").write_text((MIGRATIONS / "001_initial.sql").read_text())
    await migrate(empty_dsn, "storage", tmp_path)
    insert = """
        INSERT INTO storage.dataset (id, display_name, size_bytes, sha256, object_key, example_count, message_count,
            messages_by_role, assistant_character_count, without_system_count, duplicate_count, create_time)
        VALUES (%s, %s, 9, %s, %s, 2, 4, '{"user": 2, "assistant": 2}', 8, 2, 0, %s::timestamptz)"""
    old = [
        (uuid.UUID(int=1), "one", sha256(b"a"), "datasets/1", "2026-01-02Z"),
        (uuid.UUID(int=2), "one", sha256(b"b"), "datasets/2", "2026-01-01Z"),
        (uuid.UUID(int=3), "one", sha256(b"a"), "datasets/3", "2026-01-03Z"),
    ]
    async with open_pool(empty_dsn, application="test") as pool:
        async with transaction(pool) as connection:
            for row in old:
                await connection.execute(insert, row)
        await migrate(empty_dsn, "storage", MIGRATIONS)
        repositories = postgres_repositories(pool)
        found = await repositories.datasets.page(10, None)
        assert [(row.id.int, row.version, row.format) for row in found] == [(3, 3, "CHAT"), (1, 2, "CHAT"), (2, 1, "CHAT")]
        assert found[0].statistics["messagesByRole"] == {"user": "2", "assistant": "2"}
        assert {row.original.object_key for row in found} == {"datasets/1", "datasets/2"}
        assert all(row.rows.object_key == row.original.object_key for row in found)
        assert await due(repositories) == ["datasets/3"]
        assert (await add_dataset(repositories, dataset_draft(4, display_name="one"))).version == 4
