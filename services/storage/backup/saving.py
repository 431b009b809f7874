"""Saves one moment of the whole platform: the database as it was, and every content it refers to. Nothing has to stop."""

import dataclasses
import pathlib

import psycopg
import structlog
from psycopg.rows import dict_row

from services.common.blocking import in_thread
from services.common.errors import ServiceError
from services.storage.backup.archive import Archive, Content, Manifest
from services.storage.backup.programs import SCHEMAS, connection_of, output_of
from services.storage.object_store import ObjectStore
from services.storage.sweep_repository import SWEEP_LOCK

log = structlog.get_logger()

_SWEEP_SECONDS = 60
"""Most sweeps take less than one; a nightly backup must not fail for it."""

_CONTENTS = """
    SELECT sha256, size_bytes, object_key FROM storage.blob
    UNION ALL SELECT sha256, size_bytes, object_key FROM storage.event_segment
    ORDER BY sha256, object_key"""


@dataclasses.dataclass(frozen=True, slots=True)
class Saved:
    """What a backup has done."""

    manifest: Manifest
    copied: int
    """Contents that were not there from an earlier one."""


async def save(dsn: str, store: ObjectStore, archive: Archive, program: pathlib.Path, environment: dict[str, str]) -> Saved:
    """Writes a backup; an earlier one in the same directory stays whole until the new one is.

    The dump and the list of contents are of one snapshot, and the sweeper rests meanwhile, so what the snapshot refers to stays.
    Raises ServiceError: SWEEP_RUNNING, DATABASE_PROGRAM_FAILED, Unavailable; OSError when the directory cannot be written.
    """
    await in_thread(archive.create)
    async with await psycopg.AsyncConnection.connect(dsn, row_factory=dict_row, connect_timeout=5) as connection:
        await _hold_sweeps(connection)
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = await (await connection.execute("SELECT pg_export_snapshot() AS name, now() AS moment")).fetchone()
        assert row is not None, "a function has a value"
        dump = await _dump(dsn, row["name"], archive, program, environment)
        contents = [Content(**found) async for found in await connection.execute(_CONTENTS)]
        copied = sum([await _copy(store, archive, content) for content in contents])
    kept = tuple([content for content in contents if await in_thread(archive.has, content)])
    damaged = tuple(sorted({content.sha256 for content in contents} - {content.sha256 for content in kept}))
    manifest = Manifest(row["moment"].isoformat(timespec="seconds"), dump, kept, damaged)
    await in_thread(archive.write_manifest, manifest)
    return Saved(manifest, copied)


async def _hold_sweeps(connection: psycopg.AsyncConnection[dict[str, object]]) -> None:
    """Until the session ends; waits for a sweep to end. The lock is taken before the snapshot."""
    await connection.execute("SELECT set_config('lock_timeout', %s, true)", (f"{_SWEEP_SECONDS}s",))
    try:
        await connection.execute("SELECT pg_advisory_lock(%s)", (SWEEP_LOCK,))
    except psycopg.errors.LockNotAvailable as error:
        message = f"a sweep is at work for {_SWEEP_SECONDS} s, and would remove what the backup still has to copy"
        raise ServiceError("SWEEP_RUNNING", message) from error
    await connection.commit()


async def _dump(dsn: str, snapshot: str, archive: Archive, program: pathlib.Path, environment: dict[str, str]) -> str:
    schemas = [f"--schema={name}" for name in SCHEMAS]
    database, password = connection_of(dsn)
    options = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}", *schemas]
    command = [str(program), *options, database]
    incoming = await in_thread(archive.begin)
    try:
        async with output_of(command, environment | password) as chunks:
            async for chunk in chunks:
                await in_thread(incoming.write, chunk)
        return await in_thread(archive.dump_name, incoming)
    except BaseException:
        incoming.discard()
        raise


async def _copy(store: ObjectStore, archive: Archive, content: Content) -> bool:
    """Whether it was copied: it was there already otherwise, or the store has not what it should have."""
    if await in_thread(archive.has, content):
        return False
    if await store.size(content.object_key) != content.size_bytes:
        return False
    incoming = await in_thread(archive.begin)
    try:
        async for chunk in store.read(content.object_key, 0, content.size_bytes):
            await in_thread(incoming.write, chunk)
    except BaseException:
        incoming.discard()
        raise
    return await in_thread(archive.keep, incoming, content)
