"""Files of artifacts and base models: what a caller declares, what is stored, and the rules for paths."""

import collections
import dataclasses
import re
from collections.abc import Iterator, Sequence

from services.common.errors import NotFound, Violation

_PART = re.compile(r"[A-Za-z0-9._-]{1,128}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_PATH = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """What a caller says about one file before its bytes arrive."""

    path: str
    size_bytes: int
    sha256: str = ""
    """Empty = a checksum follows the bytes."""
    blake3: str = ""
    """Known once the bytes have arrived."""


@dataclasses.dataclass(frozen=True, slots=True)
class StoredFile:
    """A file whose bytes lie in S3 under `object_key`."""

    path: str
    size_bytes: int
    sha256: str
    object_key: str
    damage: str = ""
    """What is known to be wrong with the stored bytes; empty = nothing."""
    blake3: str = ""
    """Empty = not known yet; an older version has stored the bytes."""


def stored(file: File, object_key: str) -> StoredFile:
    """The file once its bytes lie under `object_key`."""
    return StoredFile(file.path, file.size_bytes, file.sha256, object_key, blake3=file.blake3)


def find_file(files: Sequence[StoredFile], path: str, owner: str) -> StoredFile:
    """The file with that path; raises NotFound (FILE_NOT_FOUND) naming `owner`."""
    for file in files:
        if file.path == path:
            return file
    known = ", ".join(file.path for file in files[:10])
    raise NotFound("FILE_NOT_FOUND", f"{owner}/{path[:200]}", message=f"{owner} has no file {path[:200]!r}; it has {known}")


def file_violations(files: Sequence[File], field: str, *, digest_follows: bool = False) -> Iterator[Violation]:
    """Everything wrong with a declared file list that the request holds in `field`.

    With `digest_follows` the SHA-256 may be absent.
    """
    if not files:
        yield Violation(field, "is required; declare at least one file")
    for index, file in enumerate(files):
        yield from _one_file(file, f"{field}[{index}]")
        if not (is_sha256(file.sha256) or (digest_follows and not file.sha256)):
            yield Violation(f"{field}[{index}].sha256", f"{file.sha256[:80]!r} is not 64 lower-case hexadecimal digits")
    yield from _clashes([file.path for file in files], field)


def _one_file(file: File, field: str) -> Iterator[Violation]:
    if not is_safe_path(file.path):
        yield Violation(
            f"{field}.path", f"{file.path[:80]!r} is not a relative path of parts [A-Za-z0-9._-]{{1,128}} without '..'"
        )
    if file.size_bytes < 0:
        yield Violation(f"{field}.size_bytes", f"{file.size_bytes} is negative")


def is_safe_path(path: str) -> bool:
    """Whether the path stays inside a directory on every system: no empty part, no `.`, no `..`, plain characters."""
    parts = path.split("/")
    return len(path) <= _MAX_PATH and all(_PART.fullmatch(part) and part not in (".", "..") for part in parts)


def _clashes(paths: Sequence[str], field: str) -> Iterator[Violation]:
    for path, count in collections.Counter(paths).items():
        if count > 1:
            yield Violation(field, f"{path[:80]!r} is declared {count} times")
    # A file `a` beside a file `a/b` cannot be written to a disk.
    directories = {path[:index] for path in paths for index, character in enumerate(path) if character == "/"}
    for path in sorted(directories.intersection(paths)):
        yield Violation(field, f"{path[:80]!r} is both a file and a directory")


def is_sha256(text: str) -> bool:
    """Whether the text is a SHA-256 in lower-case hexadecimal."""
    return _SHA256.fullmatch(text) is not None
