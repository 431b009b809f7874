"""The directory of a backup: contents by SHA-256, the dump of the database, and the manifest, which is written last.

manifest.json          what the backup consists of; without it there is none
database-SHA256.dump   both schemas, as pg_dump's custom format
blobs/ab/SHA256        contents; those that lie here already are not copied again
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import uuid
from collections.abc import Sequence
from typing import BinaryIO

from services.common.errors import ServiceError

FORMAT = 1
_CHUNK_BYTES = 2**20
_LEAVE_OUT = "Use another backup, bring the file back from a copy of this one, or leave it out: tunesmith restore --skip-damaged."


@dataclasses.dataclass(frozen=True, slots=True)
class Content:
    """Bytes that the database refers to, and the key under which it does."""

    sha256: str
    size_bytes: int
    object_key: str


@dataclasses.dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup consists of."""

    create_time: str
    """When the database was looked at, RFC 3339."""
    dump: str
    """Name of the dump, which holds its SHA-256."""
    contents: tuple[Content, ...]
    damaged: tuple[str, ...]
    """SHA-256 of contents that were lost or damaged when the backup was made, so that it has none of them."""


class Archive:
    """A backup's directory."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self._manifest = root / "manifest.json"

    def create(self) -> None:
        """Makes the directory, private to its owner."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def has(self, content: Content) -> bool:
        """Whether the content lies here; by size, `verified` reads it."""
        path = self._place(content.sha256)
        return path.is_file() and path.stat().st_size == content.size_bytes

    def begin(self) -> "Incoming":
        """A file to be written; it appears under its checksum when it is whole."""
        return Incoming(self.root / f".{uuid.uuid4().hex}")

    def keep(self, incoming: "Incoming", content: Content) -> bool:
        """Puts a finished file in its place; False when it is not the content, and nothing is left then."""
        if incoming.finish() != content.sha256:
            incoming.discard()
            return False
        incoming.move(self._place(content.sha256))
        return True

    def dump_name(self, incoming: "Incoming") -> str:
        """Puts a finished dump in its place and returns its name."""
        name = f"database-{incoming.finish()}.dump"
        incoming.move(self.root / name)
        return name

    def write_manifest(self, manifest: Manifest) -> None:
        """From here on there is a backup; what only earlier ones needed goes."""
        staging = self._manifest.with_suffix(".new")
        with staging.open("w") as out:
            json.dump({"format": FORMAT, **dataclasses.asdict(manifest)}, out, indent=1)
            out.flush()
            os.fsync(out.fileno())
        staging.replace(self._manifest)
        self._prune(manifest)

    def read_manifest(self) -> Manifest:
        """What the backup consists of; raises ServiceError (BACKUP_UNREADABLE)."""
        try:
            found = json.loads(self._manifest.read_text())
            if found.pop("format") != FORMAT:
                raise unreadable(f"{self._manifest} has a format that this release does not know")
            contents = tuple(Content(**content) for content in found.pop("contents"))
            return Manifest(**found | {"contents": contents, "damaged": tuple(found["damaged"])})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise unreadable(f"{self._manifest} cannot be read: {error}") from error

    def dump(self, manifest: Manifest) -> pathlib.Path:
        """The dump, read and compared with its checksum; raises ServiceError (BACKUP_UNREADABLE)."""
        path = self.root / pathlib.PurePath(manifest.dump).name
        sha256 = path.name.removeprefix("database-").removesuffix(".dump")
        self._verify(path, sha256)
        return path

    def verified(self, content: Content) -> pathlib.Path:
        """The content, read and compared with its checksum; raises ServiceError (BACKUP_UNREADABLE)."""
        path = self._place(content.sha256)
        self._verify(path, content.sha256, _LEAVE_OUT)
        return path

    def _place(self, sha256: str) -> pathlib.Path:
        return self.root / "blobs" / sha256[:2] / sha256

    def _verify(self, path: pathlib.Path, sha256: str, hint: str = "") -> None:
        try:
            with path.open("rb") as source:
                found = hashlib.file_digest(source, "sha256").hexdigest()
        except OSError as error:
            raise unreadable(f"{path} cannot be read: {error.strerror}", hint) from error
        if found != sha256:
            raise unreadable(f"{path} is damaged: its SHA-256 is {found}", hint)

    def _prune(self, manifest: Manifest) -> None:
        wanted = {content.sha256 for content in manifest.contents}
        stale = [path for path in self.root.glob("blobs/??/*") if path.name not in wanted]
        stale += [path for path in self.root.glob("database-*.dump") if path.name != manifest.dump]
        for path in [*stale, *(path for path in self.root.glob(".*") if path.is_file())]:
            path.unlink()


class Incoming:
    """A file on its way into a backup."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self._digest = hashlib.sha256()
        self._out: BinaryIO = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def write(self, chunk: bytes) -> None:
        """Appends bytes."""
        self._digest.update(chunk)
        self._out.write(chunk)

    def finish(self) -> str:
        """Makes the bytes durable; returns their SHA-256."""
        self._out.flush()
        os.fsync(self._out.fileno())
        self._out.close()
        return self._digest.hexdigest()

    def move(self, target: pathlib.Path) -> None:
        """Gives it its name."""
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.replace(target)

    def discard(self) -> None:
        """Forgets it."""
        self._out.close()
        self.path.unlink(missing_ok=True)


def total_bytes(contents: Sequence[Content]) -> int:
    """Size of all contents."""
    return sum(content.size_bytes for content in contents)


def unreadable(message: str, hint: str = "") -> ServiceError:
    """The error for a backup that is not whole; an empty hint is the catalogue's."""
    return ServiceError("BACKUP_UNREADABLE", message, hint=hint)
