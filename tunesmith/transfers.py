"""Files on their way: read in chunks, hashed, received safely; used by uploads, downloads and registrations."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tunesmith.errors import DataLoss, InvalidArgument
from tunesmith.v1.artifact_pb2 import File

CHUNK_BYTES = 1024 * 1024
Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


def chunks_of(path: Path, progress: Progress | None = None) -> Iterator[bytes]:
    """The bytes of a file, at most 1 MiB at a time."""
    total, done = path.stat().st_size, 0
    with path.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            yield chunk
            done += len(chunk)
            if progress:
                progress(done, total)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, lower-case hexadecimal."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def require_file(path: Path) -> Path:
    """`path`, when it is a file.

    Raises:
        InvalidArgument: FILE_NOT_FOUND.
    """
    if not path.is_file():
        raise InvalidArgument(f"{path} is not a file", reason="FILE_NOT_FOUND", hint="Check the path.")
    return path


def describe(directory: Path) -> list[File]:
    """Every file below a directory, sorted by path."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return [File(path=str(path.relative_to(directory)), size_bytes=path.stat().st_size, sha256=sha256_of(path)) for path in files]


def safe_target(directory: Path, relative: str) -> Path:
    """Where a file of a manifest goes; a manifest comes from outside and must not name places beyond the directory.

    Raises:
        InvalidArgument: PATH_UNSAFE.
    """
    parts = relative.split("/")
    if not relative or relative.startswith("/") or "\\" in relative or any(part in ("", ".", "..") for part in parts):
        raise InvalidArgument(f"the manifest names the path {relative!r}", reason="PATH_UNSAFE", hint="Do not use this artifact.")
    return directory.joinpath(*parts)


def receive(chunks: Iterable[bytes], target: Path, expected_sha256: str, progress: Callable[[int], None]) -> None:
    """Write the chunks beside the target and rename when the checksum is right.

    Raises:
        DataLoss: CHECKSUM_MISMATCH; nothing is left behind then.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    digest = hashlib.sha256()
    try:
        with part.open("wb") as sink:
            for chunk in chunks:
                digest.update(chunk)
                sink.write(chunk)
                progress(len(chunk))
        if digest.hexdigest() != expected_sha256:
            raise DataLoss(f"{target.name} arrived with another checksum", reason="CHECKSUM_MISMATCH", hint="Download it again.")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def receive_all(
    files: Iterable[File], directory: Path, chunks: Callable[[str], Iterable[bytes]], progress: Progress | None
) -> list[Path]:
    """Write every file below a directory; `chunks` yields the bytes of a path. Returns where they are.

    Raises:
        DataLoss: CHECKSUM_MISMATCH.
        InvalidArgument: PATH_UNSAFE; nothing is written then.
    """
    targets = [(file, safe_target(directory, file.path)) for file in files]
    total, done = sum(file.size_bytes for file, _ in targets), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, total)

    for file, target in targets:
        receive(chunks(file.path), target, file.sha256, advance)
    return [target for _, target in targets]
