"""Brings a backup back into an empty database and a bucket: bytes first, then the database, which is what makes them exist."""

import dataclasses
import pathlib
from collections.abc import Collection

import psycopg

from services.common.blocking import in_thread
from services.common.errors import ServiceError
from services.storage.backup.archive import Archive, Content, Manifest
from services.storage.backup.programs import SCHEMAS, connection_of, run
from services.storage.object_store import ObjectStore

# What was read longest ago is read next.
_CHECK_SOON = (
    "UPDATE storage.blob SET check_time = 'epoch' WHERE sha256 = ANY(%s)",
    "UPDATE storage.event_segment SET check_time = 'epoch' WHERE sha256 = ANY(%s)",
)
_PRESENT = "SELECT nspname FROM pg_namespace WHERE nspname = ANY(%s)"


async def restore(
    dsn: str,
    store: ObjectStore,
    archive: Archive,
    program: pathlib.Path,
    environment: dict[str, str],
    *,
    skip_damaged: bool = False,
) -> Manifest:
    """Restores everything, each content compared with its checksum; killed in between, it can be started again.

    Returns what was restored; `damaged` are the contents that have no bytes now: the backup has none of them, or damaged ones
    that `skip_damaged` leaves out. The scrubber reads them first, and says so of everything that has them.
    Raises ServiceError: RESTORE_TARGET_NOT_EMPTY, BACKUP_UNREADABLE, DATABASE_PROGRAM_FAILED, Unavailable.
    """
    manifest = await in_thread(archive.read_manifest)
    await _require_empty(dsn)
    dump = await in_thread(archive.dump, manifest)
    restored = tuple([content for content in manifest.contents if await _put(store, archive, content, skip_damaged)])
    missing = {*manifest.damaged, *_sha256s(manifest.contents)} - _sha256s(restored)
    options = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"]
    database, password = connection_of(dsn)
    await run([str(program), *options, database, str(dump)], environment | password)
    await _have_checked(dsn, missing)
    return dataclasses.replace(manifest, contents=restored, damaged=tuple(sorted(missing)))


def _sha256s(contents: Collection[Content]) -> set[str]:
    return {content.sha256 for content in contents}


async def _put(store: ObjectStore, archive: Archive, content: Content, skip_damaged: bool) -> bool:
    """Whether it was restored."""
    try:
        path = await in_thread(archive.verified, content)
    except ServiceError:
        if not skip_damaged:
            raise
        return False
    with path.open("rb") as source:
        await store.put(content.object_key, source, content.size_bytes)
    return True


async def _have_checked(dsn: str, sha256s: Collection[str]) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, connect_timeout=5) as connection:
        for query in _CHECK_SOON:
            await connection.execute(query, (list(sha256s),))


async def _require_empty(dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, connect_timeout=5) as connection:
        present = [row[0] for row in await (await connection.execute(_PRESENT, (list(SCHEMAS),))).fetchall()]
    if present:
        raise ServiceError("RESTORE_TARGET_NOT_EMPTY", f"the database has the schemas {', '.join(sorted(present))} already")
