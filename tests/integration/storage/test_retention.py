"""Retention in Postgres and S3, and the races only they can have."""

import asyncio
import contextlib
import datetime
import io
import uuid

import grpc
import psycopg
import pytest
from unit.storage.repository_suite import artifact_draft, keys
from unit.storage.retention_suite import Advance, RetentionSuite
from unit.storage.service import Service, refused

from services.common.errors import NotFound, ServiceError
from services.common.postgres import Pool, transaction
from services.storage.artifact import ArtifactFilter
from services.storage.object_store import MinioObjectStore
from services.storage.registration import Repositories
from services.storage.retention_change import Pin, Restore
from services.storage.sweeper import Sweeper

pytestmark = pytest.mark.integration
DAY = datetime.timedelta(days=1)


class TestRetention(RetentionSuite):
    """All rules of the suite."""


async def audit(pool: Pool) -> list[tuple[str, str, str]]:
    async with transaction(pool) as connection:
        cursor = await connection.execute("SELECT action, actor, reason FROM storage.artifact_audit ORDER BY id")
        return [(row["action"], row["actor"], row["reason"]) async for row in cursor]


async def test_bytes_that_a_row_refers_to_cannot_lose_their_blob(service: Service, pool: Pool) -> None:
    await service.store_artifact({"a": b"x"})
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        async with transaction(pool) as connection:
            await connection.execute("DELETE FROM storage.blob")


async def test_every_deed_is_in_the_audit(service: Service, pool: Pool, advance: Advance) -> None:
    name = (await service.store_artifact({"a": b"x"})).name
    await service.pin(name, "champion")
    await service.unpin(name, "beaten")
    await service.extend(name, 1, "a day more")
    await advance(16.1 * DAY)
    await service.sweep()
    await service.restore(name, "a mistake")
    for _ in range(2):
        await advance(16 * DAY)
        await service.sweep()
    assert await audit(pool) == [
        ("PIN", "caller", "champion"),
        ("UNPIN", "caller", "beaten"),
        ("EXTEND", "caller", "a day more"),
        ("EXPIRE", "sweeper", ""),
        ("RESTORE", "caller", "a mistake"),
        ("EXPIRE", "sweeper", ""),
        ("DELETE", "sweeper", ""),
    ]


async def test_a_pin_or_a_restore_racing_a_sweep_wins_whole_or_fails_clean(repositories: Repositories, advance: Advance) -> None:
    for number in range(1, 13):
        await repositories.artifacts.add(artifact_draft(number), await keys(repositories, "one"))
    await advance(15.1 * DAY)

    async def attempt(number: int) -> bool:
        change = Restore("") if number % 2 else Pin("")
        with contextlib.suppress(NotFound):
            await repositories.artifacts.change(uuid.UUID(int=number), change)
            return True
        return False

    sweeps = [repositories.sweeps.decide([], 100, dry_run=False) for _ in range(3)]
    won, *_ = await asyncio.gather(asyncio.gather(*map(attempt, range(1, 13))), *sweeps)
    available = {artifact.id.int for artifact in await repositories.artifacts.page(50, None, ArtifactFilter())}
    # Expired comes before restored: a restore always finds it; a pin comes too late for all.
    assert available == {number for number, success in enumerate(won, 1) if success} == {1, 3, 5, 7, 9, 11}


async def stored(repositories: Repositories, store: MinioObjectStore, prefix: str) -> dict[str, str]:
    """What an upload has recorded and put before its commit."""
    made = await keys(repositories, prefix)
    for key in made.values():
        await store.put(key, io.BytesIO(b"x"), 1)
    return made


async def test_an_upload_racing_the_sweep_of_its_content_never_loses_it(
    repositories: Repositories, store: MinioObjectStore, pool: Pool, advance: Advance
) -> None:
    sweeper = Sweeper(repositories.sweeps, repositories.pending, store, limit=100)
    for number in range(1, 40, 2):
        known = await stored(repositories, store, f"o{number}")
        first = await repositories.artifacts.add(artifact_draft(number), known)
        known = {file.sha256: file.object_key for file in first.files}
        await advance(15.1 * DAY)
        await sweeper.sweep(dry_run=False)
        await advance(3.1 * DAY)
        # Odd rounds count on what is known, even rounds bring their own bytes.
        counts_on_known = number % 4 == 1
        brought = known if counts_on_known else await stored(repositories, store, f"u{number}")
        added, _ = await asyncio.gather(
            repositories.artifacts.add(artifact_draft(number + 1), brought), sweeper.sweep(dry_run=False), return_exceptions=True
        )
        if isinstance(added, ServiceError):
            assert (added.reason, counts_on_known) == ("UPLOAD_EXPIRED", True)
            continue
        assert not isinstance(added, BaseException), added
        assert {file.object_key for file in added.files} <= {item.key for item in await store.list("blobs/")}
        async with transaction(pool) as connection:
            cursor = await connection.execute("SELECT object_key FROM storage.pending_object WHERE removing")
            condemned = {row["object_key"] async for row in cursor}
        assert not {file.object_key for file in added.files} & condemned
        settled = await repositories.blobs.known({file.sha256 for file in added.files})
        assert {file.object_key for file in added.files} == set(settled.values())


async def test_one_sweep_at_a_time_across_replicas(repositories: Repositories, service: Service) -> None:
    async with repositories.sweeps.alone():
        async with refused("SWEEP_RUNNING") as refusal:
            await service.sweep()
        assert refusal.code == grpc.StatusCode.ABORTED
        assert (await service.sweep(dry_run=True)).dry_run
    assert not (await service.sweep()).dry_run


async def test_a_limit_spreads_the_work_over_sweeps(
    service: Service, repositories: Repositories, store: MinioObjectStore, advance: Advance
) -> None:
    for number in range(5):
        await service.store_artifact({"a": b"%d" % number})
    sweeper = Sweeper(repositories.sweeps, repositories.pending, store, limit=2)
    await advance(15.1 * DAY)
    for expected in (2, 2, 1, 0):
        sweep, _ = await sweeper.sweep(dry_run=False)
        assert (len(sweep.expired), sweep.truncated) == (expected, expected == 2)


async def test_what_was_decided_and_not_done_is_done_by_the_next_sweep(
    service: Service, repositories: Repositories, advance: Advance
) -> None:
    await service.store_artifact({"a": b"x", "b": b"y"})
    await advance(15.1 * DAY)
    await service.sweep()
    await advance(3.1 * DAY)
    decided = await repositories.sweeps.decide([], 100, dry_run=False)
    assert len(await service.keys()) == len(decided.objects) == 2
    assert (await service.sweep()).removed_object_count == 2
    assert await service.keys() == set()


async def test_ten_thousand_artifacts_are_swept_by_index(repositories: Repositories, pool: Pool, advance: Advance) -> None:
    await repositories.artifacts.add(artifact_draft(1), await keys(repositories, "one"))
    async with transaction(pool) as connection:
        await connection.execute(
            "INSERT INTO storage.artifact (id, kind, task, epoch, request_id, manifest, size_bytes, create_time, expire_time)"
            " SELECT gen_random_uuid(), kind, task, epoch, 'n' || n, manifest, size_bytes, create_time,"
            " expire_time + n * interval '1 minute' FROM storage.artifact, generate_series(1, 10000) AS n"
        )
    await advance(15.01 * DAY)
    sweep = await repositories.sweeps.decide([], 1000, dry_run=False)
    assert 14 <= len(sweep.expired) <= 16
    async with transaction(pool) as connection:
        await connection.execute("ANALYZE storage.artifact")
        cursor = await connection.execute(
            "EXPLAIN SELECT id FROM storage.artifact WHERE state = 'AVAILABLE' AND due_time <= storage.clock() LIMIT 10"
        )
        plan = " ".join([row["QUERY PLAN"] async for row in cursor])
    assert "artifact_due" in plan


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE storage.artifact SET state = 'EXPIRED'",
        "UPDATE storage.artifact SET delete_time = now()",
        "UPDATE storage.artifact SET state = 'DELETED', delete_time = now(), pinned = true",
        "UPDATE storage.artifact SET reason = repeat('x', 129)",
    ],
)
async def test_the_database_refuses_lives_that_cannot_be(repositories: Repositories, pool: Pool, statement: str) -> None:
    await repositories.artifacts.add(artifact_draft(), await keys(repositories, "one"))
    with pytest.raises(psycopg.errors.CheckViolation):
        async with transaction(pool) as connection:
            await connection.execute(statement)


async def test_the_bucket_gets_a_rule_for_abandoned_parts_once(store: MinioObjectStore, client: object, s3: object) -> None:
    await store.prepare()
    rules = client.get_bucket_lifecycle(s3.bucket).rules
    assert [(rule.rule_id, rule.abort_incomplete_multipart_upload.days_after_initiation) for rule in rules] == [
        ("tunesmith-abandoned-parts", 2)
    ]
    assert all(rule.expiration is None for rule in rules)
