"""Models in a directory of the server, opened step by step through descriptors, so that no link leads out of it."""

import contextlib
import errno
import itertools
import os
import pathlib
import stat
from collections.abc import AsyncIterator, Iterator
from typing import BinaryIO

from services.common.blocking import in_thread
from services.common.errors import ServiceError
from services.storage.model_safety import unsafe
from services.storage.object_store import CHUNK_BYTES
from services.storage.server_place import MAX_FILES, FoundFile, changed, checked_path, is_hidden, not_found, too_many

_MAX_DEPTH = 8
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Without O_NONBLOCK, opening what has become a pipe meanwhile would wait for a writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class ServerDirectory:
    """What lies below `root`; see ServerPlace. The root itself is the operator's and may be a link."""

    def __init__(self, root: pathlib.Path) -> None:
        self._root = root

    async def files(self, name: str) -> list[FoundFile]:
        """Plain files below the directory, by path; see ServerPlace."""
        return await in_thread(self._files, name)

    async def read(self, name: str, file: FoundFile) -> AsyncIterator[bytes]:
        """The bytes of a file; see ServerPlace."""
        content = await in_thread(self._open, name, file.path)
        try:
            missing = file.size_bytes
            while chunk := await in_thread(content.read, CHUNK_BYTES):
                if len(chunk) > missing:
                    raise changed(file.path, "has grown")
                missing -= len(chunk)
                yield chunk
            if missing:
                raise changed(file.path, "has shrunk")
        finally:
            content.close()

    def _files(self, name: str) -> list[FoundFile]:
        with _told(name), self._directory(name) as handle:
            found = list(itertools.islice(_walk(handle, "", 1), MAX_FILES + 1))
        if not found:
            raise not_found(name, "a directory below the import root; links are not followed")
        if len(found) > MAX_FILES:
            raise too_many(name)
        return sorted(found, key=lambda file: file.path)

    def _open(self, name: str, path: str) -> BinaryIO:
        parent, _, last = f"{name}/{path}".rpartition("/")
        with _told(path), self._directory(parent) as handle:
            file = os.fdopen(os.open(last, _FILE, dir_fd=handle), "rb")
        try:
            _require_plain(path, os.fstat(file.fileno()))
        except ServiceError:
            file.close()
            raise
        return file

    @contextlib.contextmanager
    def _directory(self, name: str) -> Iterator[int]:
        """A descriptor of a directory below the root; raises OSError."""
        with contextlib.ExitStack() as stack:
            handle = _opened(stack, str(self._root), _DIRECTORY)
            for part in name.split("/"):
                handle = _opened(stack, part, _DIRECTORY | os.O_NOFOLLOW, handle)
            yield handle


def _opened(stack: contextlib.ExitStack, name: str, flags: int, parent: int | None = None) -> int:
    handle = os.open(name, flags, dir_fd=parent)
    stack.callback(os.close, handle)
    return handle


def _walk(directory: int, prefix: str, depth: int) -> Iterator[FoundFile]:
    with os.scandir(directory) as entries:
        names = [entry.name for entry in itertools.islice(entries, MAX_FILES + 1)]
    if len(names) > MAX_FILES:
        raise too_many(prefix.rstrip("/") or "the directory")
    for name in sorted(name for name in names if not is_hidden(name)):
        path = checked_path(prefix + name)
        facts = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISDIR(facts.st_mode):
            _require_plain(path, facts)
            yield FoundFile(path, facts.st_size)
            continue
        if depth == _MAX_DEPTH:
            raise unsafe(path, f"it lies more than {_MAX_DEPTH} directories deep")
        with contextlib.ExitStack() as stack:
            inner = _opened(stack, name, _DIRECTORY | os.O_NOFOLLOW, directory)
            yield from _walk(inner, f"{path}/", depth + 1)


def _require_plain(path: str, facts: os.stat_result) -> None:
    """Raises BASE_MODEL_UNSAFE for what is no file of its own: it may be a name for bytes that lie elsewhere."""
    if stat.S_ISLNK(facts.st_mode):
        raise unsafe(path, "it is a symbolic link, which may name anything on the server")
    if not stat.S_ISREG(facts.st_mode):
        raise unsafe(path, "it is no plain file")
    if facts.st_nlink > 1:
        raise unsafe(path, f"it has {facts.st_nlink} hard links, so it may be a file from elsewhere")


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """Says what the system's refusal means to whoever asked."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise not_found(name, "a directory below the import root; links are not followed") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise unsafe(name, "it is a symbolic link, which may name anything on the server") from error
        message = f"{name} cannot be read on the server: {error.strerror}"
        raise ServiceError("IMPORT_SOURCE_UNREADABLE", message, metadata={"path": name}) from error
