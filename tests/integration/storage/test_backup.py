"""A backup of real Postgres and S3 comes back equal; nothing stops meanwhile, and damage is told."""

import asyncio
import datetime
import io
import pathlib
import uuid
from collections.abc import AsyncIterator

import minio
import psycopg
import pytest
from embedded import S3
from integration.storage.conftest import postgres_repositories
from unit.storage.artifact_suite import until
from unit.storage.service import Service, lines, model_files, row, running_service, sha256

from services import task_manager
from services.common.errors import ServiceError
from services.common.postgres import Pool, migrate, open_pool, transaction
from services.storage.artifact import EVERYTHING_AVAILABLE
from services.storage.backup import saving
from services.storage.backup.archive import Archive
from services.storage.backup.restoring import restore
from services.storage.backup.saving import Saved, save
from services.storage.object_store import MinioObjectStore
from services.storage.scrubber import Scrubber
from services.storage.sweep_repository import SWEEP_LOCK
from tunesmith.local.postgres import binary, environment
from tunesmith.v1 import model_service_pb2

pytestmark = pytest.mark.integration
FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": bytes(range(256)) * 20_000}


@pytest.fixture
async def target_dsn(postgres_dsn: str) -> AsyncIterator[str]:
    """Another empty database."""
    name = f"restored_{uuid.uuid4().hex}"
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin:
        await admin.execute(f'CREATE DATABASE "{name}"')
        yield postgres_dsn.rsplit("/", 1)[0] + "/" + name
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
async def archive(tmp_path: pathlib.Path, postgres_dsn: str) -> Archive:
    """An empty one, of a database with both schemas."""
    await migrate(postgres_dsn, "task_manager", pathlib.Path(task_manager.__file__).with_name("migrations"))
    return Archive(tmp_path / "backup")


async def saved(dsn: str, store: MinioObjectStore, archive: Archive) -> Saved:
    return await save(dsn, store, archive, binary("pg_dump"), dict(environment()))


async def rows_of(dsn: str) -> dict[str, list[str]]:
    """Every table of both schemas, sorted."""
    query = "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname IN ('storage', 'task_manager') ORDER BY 1"
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        tables = [name for (name,) in await (await connection.execute(query)).fetchall()]
        return {name: sorted(map(str, await (await connection.execute(f"SELECT * FROM {name}")).fetchall())) for name in tables}


async def test_everything_comes_back_equal_and_serves(
    service: Service,
    store: MinioObjectStore,
    pool: Pool,
    postgres_dsn: str,
    target_dsn: str,
    archive: Archive,
    client: minio.Minio,
    s3: S3,
) -> None:
    artifact = await service.store_artifact(FILES)
    version = await service.export(artifact.name, alias="best")
    await service.register_model(model_files())
    dataset = await service.upload(lines(row()))
    task = f"tasks/{uuid.uuid4()}"
    await service.put_segment(task, b"events")
    done = await saved(postgres_dsn, store, archive)
    assert (done.copied, done.manifest.damaged) == (len(done.manifest.contents), ())
    assert (await saved(postgres_dsn, store, archive)).copied == 0
    await service.store_artifact({"later": b"after the backup"})

    other = MinioObjectStore(s3.endpoint, access_key=s3.access_key, secret_key=s3.secret_key, bucket=f"{s3.bucket}-2")
    await other.prepare()
    before = await rows_of(postgres_dsn)
    await restore(target_dsn, other, archive, binary("pg_restore"), dict(environment()))
    after = await rows_of(target_dsn)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed == {f"storage.{name}" for name in ("artifact", "artifact_file", "artifact_epoch", "blob")}
    async with (
        open_pool(target_dsn, application="test") as pool,
        running_service(postgres_repositories(pool), other, set) as second,
    ):
        for path, content in FILES.items():
            assert await second.download_artifact(artifact.name, path) == content
            assert await second.download_model("models/mine@best", path) == content
        assert await second.version(version.name) == version
        assert await second.download(dataset.name) == lines(row())
        found = await second.models.ListBaseModels(model_service_pb2.ListBaseModelsRequest())
        assert [model.name for model in found.base_models] == ["baseModels/tiny"]
        assert len(await second.list_artifacts()) == 1
        assert await second.segment(task, b"events") == b"events"
        assert not (await second.sweep()).removed_object_count
    with pytest.raises(ServiceError) as caught:
        await restore(target_dsn, other, archive, binary("pg_restore"), dict(environment()))
    assert caught.value.reason == "RESTORE_TARGET_NOT_EMPTY"
    await asyncio.to_thread(_drop, client, f"{s3.bucket}-2")


async def test_what_is_damaged_is_left_out_and_told(
    service: Service, store: MinioObjectStore, postgres_dsn: str, archive: Archive
) -> None:
    await service.store_artifact({"a": b"weights", "b": b"fine", "c": b"lost"})
    keys = await service.repositories.blobs.known([sha256(b"weights"), sha256(b"lost")])
    await store.put(keys[sha256(b"weights")], io.BytesIO(b"wEights"), 7)
    await store.remove(keys[sha256(b"lost")])
    done = await saved(postgres_dsn, store, archive)
    assert set(done.manifest.damaged) == set(keys)
    assert [content.sha256 for content in done.manifest.contents] == [sha256(b"fine")]


async def test_what_lies_damaged_in_the_backup_is_left_out_when_asked_and_found_by_the_scrubber(
    service: Service, store: MinioObjectStore, postgres_dsn: str, target_dsn: str, archive: Archive, client: minio.Minio, s3: S3
) -> None:
    artifact = await service.store_artifact({"a": b"weights", "b": b"fine", "c": b"lost"})
    keys = await service.repositories.blobs.known([sha256(b"lost")])
    await store.remove(keys[sha256(b"lost")])
    await saved(postgres_dsn, store, archive)
    (rotten,) = archive.root.glob(f"blobs/*/{sha256(b'weights')}")
    rotten.write_bytes(b"wEights")
    other = MinioObjectStore(s3.endpoint, access_key=s3.access_key, secret_key=s3.secret_key, bucket=f"{s3.bucket}-2")
    await other.prepare()
    target = (target_dsn, other, archive, binary("pg_restore"), dict(environment()))
    with pytest.raises(ServiceError, match="is damaged") as caught:
        await restore(*target)
    assert (caught.value.reason, "--skip-damaged" in caught.value.hint) == ("BACKUP_UNREADABLE", True)
    done = await restore(*target, skip_damaged=True)
    assert [content.sha256 for content in done.contents] == [sha256(b"fine")]
    assert set(done.damaged) == {sha256(b"weights"), sha256(b"lost")}
    async with open_pool(target_dsn, application="test") as pool:
        repositories = postgres_repositories(pool)
        scrubber = Scrubber(repositories.scrubs, other, bytes_per_second=2**30, interval=datetime.timedelta(days=30))
        while await scrubber.check_next():
            pass
        (found,) = await repositories.artifacts.page(9, None, EVERYTHING_AVAILABLE)
        assert (found.name, {file.path for file in found.files if file.damage}) == (artifact.name, {"a", "c"})
    await asyncio.to_thread(_drop, client, f"{s3.bucket}-2")


async def test_a_backup_and_a_sweep_never_run_together(
    service: Service,
    store: MinioObjectStore,
    postgres_dsn: str,
    archive: Archive,
    pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with transaction(pool) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (SWEEP_LOCK,))
        monkeypatch.setattr(saving, "_SWEEP_SECONDS", 0.01)
        with pytest.raises(ServiceError) as caught:
            await saved(postgres_dsn, store, archive)
    assert caught.value.reason == "SWEEP_RUNNING"
    assert not (archive.root / "manifest.json").exists()
    await saved(postgres_dsn, store, archive)
    assert not (await service.sweep()).removed_object_count


async def test_a_backup_waits_for_the_end_of_a_sweep(
    service: Service, store: MinioObjectStore, postgres_dsn: str, archive: Archive, pool: Pool
) -> None:
    await service.store_artifact(FILES)
    waiting = "SELECT count(*) AS count FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    async with transaction(pool) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (SWEEP_LOCK,))
        backup = asyncio.create_task(saved(postgres_dsn, store, archive))

        async def waits() -> bool:
            assert not backup.done()
            row = await (await connection.execute(waiting)).fetchone()
            return row is not None and row["count"] == 1

        await until(waits)
    assert (await backup).copied == len(FILES)


def _drop(client: minio.Minio, bucket: str) -> None:
    for item in list(client.list_objects(bucket, recursive=True)):
        client.remove_object(bucket, item.object_name)
    client.remove_bucket(bucket)
