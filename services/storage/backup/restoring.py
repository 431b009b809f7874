"""Brings a backup back into an empty database and a bucket: bytes first, then the database, which is what makes them exist."""

import pathlib

import psycopg

from services.common.errors import ServiceError
from services.storage.backup.archive import Archive, Content, Manifest
from services.storage.backup.programs import SCHEMAS, connection_of, run
from services.storage.blocking import in_thread
from services.storage.object_store import ObjectStore

_PRESENT = "SELECT nspname FROM pg_namespace WHERE nspname = ANY(%s)"


async def restore(dsn: str, store: ObjectStore, archive: Archive, program: pathlib.Path, environment: dict[str, str]) -> Manifest:
    """Restores everything, each content compared with its checksum; killed in between, it can be started again.

    Raises ServiceError: RESTORE_TARGET_NOT_EMPTY, BACKUP_UNREADABLE, DATABASE_PROGRAM_FAILED, Unavailable.
    """
    manifest = await in_thread(archive.read_manifest)
    await _require_empty(dsn)
    dump = await in_thread(archive.dump, manifest)
    for content in manifest.contents:
        await _put(store, archive, content)
    options = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"]
    database, password = connection_of(dsn)
    await run([str(program), *options, database, str(dump)], environment | password)
    return manifest


async def _put(store: ObjectStore, archive: Archive, content: Content) -> None:
    path = await in_thread(archive.verified, content)
    with path.open("rb") as source:
        await store.put(content.object_key, source, content.size_bytes)


async def _require_empty(dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, connect_timeout=5) as connection:
        present = [row[0] for row in await (await connection.execute(_PRESENT, (list(SCHEMAS),))).fetchall()]
    if present:
        raise ServiceError("RESTORE_TARGET_NOT_EMPTY", f"the database has the schemas {', '.join(sorted(present))} already")
