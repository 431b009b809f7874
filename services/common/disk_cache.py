"""Directories of fetched files below one root, bounded in size: what was used longest ago makes room. Used by `bundles`.

Several processes may share a root. Whoever uses a directory says so now and then; within the next hour nobody removes it.
"""

import contextlib
import fcntl
import os
import pathlib
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator

import structlog

log = structlog.get_logger()

IN_USE_SECONDS = 3600.0
"""So long after it was said, a directory counts as in use."""
_ABANDONED_SECONDS = 24 * 3600.0
"""After so long, what is still hidden was left by a process that died."""


class DiskCache:
    """Directories of `root` by name; hidden ones are being made or removed. `max_bytes` 0 = without limit."""

    def __init__(self, root: pathlib.Path, max_bytes: int, *, now: Callable[[], float] = time.time) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._now = now

    def use(self, name: str) -> bool:
        """Whether the directory is there; from now on it is in use."""
        with self._locked():
            return self._touch(self._root / name)

    def keep(self, directories: Iterable[str | pathlib.Path]) -> None:
        """Says that these, or those that they are in, are in use; what is elsewhere or gone is ignored."""
        root = self._root.resolve()
        inside = [path.relative_to(root) for each in directories if (path := pathlib.Path(each).resolve()).is_relative_to(root)]
        with _troubles_logged(), self._locked():
            for name in {path.parts[0] for path in inside if path.parts}:
                self._touch(root / name)

    def trim(self) -> None:
        """Removes what is too much, and what processes that died have left; what the disk refuses is left for the next time."""
        if not self._max_bytes:
            return
        gone: list[pathlib.Path] = []
        with _troubles_logged(), self._locked():
            gone = [*self._abandoned(), *map(self._hidden, self._too_much())]
        for directory in gone:
            shutil.rmtree(directory, ignore_errors=True)

    def _too_much(self) -> Iterator[pathlib.Path]:
        kept = [path for path in self._root.iterdir() if path.is_dir() and not path.name.startswith(".")]
        sizes = {path: _size(path) for path in kept}
        excess = sum(sizes.values()) - self._max_bytes
        for path in sorted(kept, key=_last_use):
            if excess <= 0 or _last_use(path) > self._now() - IN_USE_SECONDS:
                return
            excess -= sizes[path]
            log.info("cache.removed", directory=path.name, size_bytes=sizes[path])
            yield path

    def _abandoned(self) -> list[pathlib.Path]:
        hidden = [path for path in self._root.iterdir() if path.is_dir() and path.name.startswith(".")]
        return [path for path in hidden if _last_use(path) < self._now() - _ABANDONED_SECONDS]

    def _hidden(self, path: pathlib.Path) -> pathlib.Path:
        """Out of everybody's sight, so that removing it, which takes a while, needs no lock."""
        return path.rename(self._root / f".{path.name}.{uuid.uuid4().hex}")

    def _touch(self, directory: pathlib.Path) -> bool:
        try:
            os.utime(directory, (self._now(), self._now()))
        except FileNotFoundError:
            return False
        return True

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Between looking at a directory and removing it nobody may begin to use it."""
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@contextlib.contextmanager
def _troubles_logged() -> Iterator[None]:
    """Tidying is worth no failure: whoever does it has what it came for."""
    try:
        yield
    except OSError as error:
        log.warning("cache.untidy", detail=str(error))


def _last_use(path: pathlib.Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0


def _size(directory: pathlib.Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
