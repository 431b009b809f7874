"""The small files of base models on disk, for the process that renders; a cache keyed by revision, used by preview and gate."""

import asyncio
import contextlib
import fcntl
import os
import pathlib
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Sequence

import structlog

from services.common.blocking import in_thread
from services.common.errors import ServiceError
from services.storage.file import StoredFile
from services.storage.keyed_locks import KeyedLocks
from services.storage.object_store import ObjectStore
from tunesmith.checksum import Checksum

log = structlog.get_logger()

# What the renderer reads; weights stay where they are.
NAMES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json", "config.json")
DEFAULT_LIMIT_BYTES = 512 * 2**20
_ABANDONED_SECONDS = 3600.0


class BaseModelFiles:
    """Directories below `root`, which several processes may share; the least recently used go when they exceed `limit_bytes`.

    A directory in use holds a shared file lock, so that no process removes it.
    """

    def __init__(self, store: ObjectStore, root: pathlib.Path, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._store = store
        self._root = root
        self._limit_bytes = limit_bytes
        self._locks: KeyedLocks[str] = KeyedLocks()

    @contextlib.asynccontextmanager
    async def directory(self, revision: str, files: Sequence[StoredFile]) -> AsyncIterator[pathlib.Path]:
        """The small ones among the files of a base model, in a directory that stays for the block.

        Raises Unavailable (OBJECT_STORE_UNAVAILABLE), ServiceError (CHECKSUM_MISMATCH).
        """
        path = self._root / revision
        async with self._locks.of(revision):
            handle = await in_thread(_held, path)
            while handle is None:
                await self._fetch(path, [file for file in files if file.path in NAMES])
                handle = await in_thread(_held, path)
        try:
            yield path
        finally:
            os.close(handle)

    async def _fetch(self, path: pathlib.Path, files: Sequence[StoredFile]) -> None:
        await in_thread(_make_room, self._root, self._limit_bytes - sum(file.size_bytes for file in files))
        scratch = self._root / f".{uuid.uuid4().hex}"
        try:
            await in_thread(scratch.mkdir)
            for file in files:
                await self._write(scratch / file.path, file)
            await in_thread(_publish, scratch, path)
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    async def _write(self, target: pathlib.Path, file: StoredFile) -> None:
        comparison = Checksum.of(file).begin()
        with target.open("wb") as out:
            async for chunk in self._store.read(file.object_key, 0, file.size_bytes):
                comparison.update(chunk)
                await in_thread(out.write, chunk)
        if not comparison.fits:
            raise ServiceError("CHECKSUM_MISMATCH", f"{file.path} of a base model lies damaged in the object store")


def _held(path: pathlib.Path) -> int | None:
    """A descriptor that keeps the directory in place, None when there is no directory; close it after use."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    fcntl.flock(handle, fcntl.LOCK_SH)
    # It may have been moved away between the two calls.
    if not path.exists() or not os.path.samestat(os.fstat(handle), path.stat()):
        os.close(handle)
        return None
    os.utime(handle)
    return handle


def _publish(scratch: pathlib.Path, path: pathlib.Path) -> None:
    try:
        scratch.rename(path)
    except OSError:
        # Another process was faster; its copy has the same content by construction of the key.
        if not path.is_dir():
            raise


def _make_room(root: pathlib.Path, limit_bytes: int) -> None:
    root.mkdir(parents=True, exist_ok=True)
    sizes = {path: _size(path) for path in root.iterdir() if not _in_the_making(path)}
    for path in sorted(sizes, key=_last_use):
        if sum(sizes.values()) <= max(limit_bytes, 0):
            return
        if _removed(path):
            del sizes[path]


def _in_the_making(path: pathlib.Path) -> bool:
    """Whether somebody may still be writing it; what is old was left by a process that died."""
    return path.name.startswith(".") and _last_use(path) > time.time() - _ABANDONED_SECONDS


def _last_use(path: pathlib.Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(path: pathlib.Path) -> int:
    try:
        return sum(file.stat().st_size for file in path.iterdir())
    except FileNotFoundError:
        return 0


def _removed(path: pathlib.Path) -> bool:
    """Removes a directory nobody uses; False when somebody does, or was faster."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        grave = path.with_name(f".{uuid.uuid4().hex}")
        path.rename(grave)
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(handle)
    shutil.rmtree(grave, ignore_errors=True)
    log.info("base_model_files.evicted", revision=path.name)
    return True
