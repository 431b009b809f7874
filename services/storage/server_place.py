"""Places that the server reads models from itself, and the rules that hold for all of them."""

import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from services.common.errors import InvalidArgument, NotFound, ServiceError, Violation
from services.storage.file import is_safe_path
from services.storage.model_safety import unsafe

MAX_FILES = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that lies there."""

    path: str
    """Relative to what was asked for; safe as `is_safe_path` says."""
    size_bytes: int


class ServerPlace(Protocol):
    """Directories of a model each, by names that `checked_name` has let through."""

    async def files(self, name: str) -> Sequence[FoundFile]:
        """At most MAX_FILES, by path, without hidden ones.

        Raises NotFound (IMPORT_SOURCE_NOT_FOUND), ServiceError (BASE_MODEL_UNSAFE, IMPORT_SOURCE_UNREADABLE), InvalidArgument and
        Unavailable.
        """

    def read(self, name: str, file: FoundFile) -> AsyncIterator[bytes]:
        """The bytes of a file; raises as `files` does, and CHECKSUM_MISMATCH when it has another size by now."""


def checked_name(name: str, field: str) -> str:
    """The name; raises InvalidArgument when it is no relative path of plain parts."""
    if not is_safe_path(name):
        raise InvalidArgument(
            Violation(field, f"{name[:80]!r} is not a relative path of parts [A-Za-z0-9._-]{{1,128}} without '..'")
        )
    return name


def is_hidden(path: str) -> bool:
    """Whether a part of the path begins with a dot: tools for downloads and version control keep theirs there."""
    return any(part.startswith(".") and part not in (".", "..") for part in path.split("/"))


def checked_path(path: str) -> str:
    """The path of a file or directory that was found; raises BASE_MODEL_UNSAFE for one that no upload could have."""
    if not is_safe_path(path):
        shown = path.encode(errors="replace").decode()[:200]
        raise unsafe(shown, "its path has parts other than [A-Za-z0-9._-]{1,128}")
    return path


def too_many(name: str) -> InvalidArgument:
    """The error for a place with more files than a model has."""
    return InvalidArgument(Violation("source", f"{name} holds more than {MAX_FILES} files"))


def not_found(name: str, where: str) -> NotFound:
    """The error for a name with nothing behind it."""
    return NotFound("IMPORT_SOURCE_NOT_FOUND", name, message=f"{name} is not there, or empty: looked for {where}")


def changed(path: str, what: str) -> ServiceError:
    """The error for a file that somebody writes while it is read."""
    return ServiceError(
        "CHECKSUM_MISMATCH",
        f"{path} {what} while it was read",
        metadata={"path": path},
        hint="Wait until whoever writes the files has finished, then try again.",
    )
