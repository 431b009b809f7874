"""Files on their way: read in chunks, hashed, received safely; used by uploads, downloads and registrations."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tunesmith.checksum import Checksum, Comparison
from tunesmith.direct_download import DirectDownload, Fetch, Sign
from tunesmith.errors import DataLoss, InvalidArgument, OutOfRange
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


def summed(progress: Progress | None, total: int) -> Callable[[int], None]:
    """A callback that takes what was done since the last call and tells `progress` the sum."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, total)

    return advance


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
    """Every file below a directory, sorted by path.

    Raises:
        InvalidArgument: LINK_REFUSED; a link may name anything on this machine.
    """
    found = sorted(directory.rglob("*"))
    for path in found:
        if path.is_symlink():
            hint = f"If you trust it, copy what it points to: cp -rL {directory} COPY"
            raise InvalidArgument(f"{path} is a symbolic link", reason="LINK_REFUSED", hint=hint)
    files = [path for path in found if path.is_file()]
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


def receive(
    fetch: Callable[[int], Iterable[bytes | memoryview]],
    target: Path,
    *,
    key: str,
    checksum: Checksum,
    progress: Callable[[int], None],
) -> None:
    """Write what `fetch(offset)` yields beside the target, and rename when the checksum is right (an empty one always is).

    `key` identifies the content: bytes that an interrupted transfer left under it are continued.

    Raises:
        DataLoss: CHECKSUM_MISMATCH; nothing is left behind then.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # Hashed, because the key may come from outside, and so that it is never the name of a file that is itself downloaded.
    part = target.with_name(f".{hashlib.sha256(key.encode()).hexdigest()}.part")
    comparison = checksum.begin()
    try:
        _receive_rest(fetch, part, comparison, progress)
        _require_fit(comparison, target)
    except (DataLoss, OutOfRange):  # what is there is not the beginning of what should be
        part.unlink(missing_ok=True)
        raise
    part.replace(target)


def receive_all(files: Sequence[File], directory: Path, fetch: Fetch, sign: Sign, progress: Progress | None) -> list[Path]:
    """Receive every file below a directory; `fetch` yields the bytes of one, `sign(path)` says where the object store has it.
    Returns where they are.

    Raises:
        DataLoss: CHECKSUM_MISMATCH; FILE_DAMAGED when it is the stored bytes that have changed.
        InvalidArgument: PATH_UNSAFE; nothing is written then.
    """
    targets = [(file, safe_target(directory, file.path)) for file in files]
    advance, source = summed(progress, sum(file.size_bytes for file, _ in targets)), DirectDownload(files, fetch, sign)
    for file, target in targets:
        arrive = partial(receive, target=target, key=file.sha256, checksum=Checksum.of(file), progress=advance)
        try:
            arrive(partial(source.read, file.path))
        except DataLoss as error:
            if error.reason != "CHECKSUM_MISMATCH":
                raise
            # Only the service can tell damage that is stored from damage on the way, and remember it.
            source.works = False
            arrive(partial(_verified, fetch, file.path))
    return [target for _, target in targets]


def _verified(fetch: Fetch, path: str, offset: int) -> Iterator[bytes]:
    return fetch(path, offset, False)


def _require_fit(comparison: Comparison, target: Path) -> None:
    if not comparison.fits:
        raise DataLoss(f"{target.name} arrived with another checksum", reason="CHECKSUM_MISMATCH", hint="Download it again.")


def _receive_rest(
    fetch: Callable[[int], Iterable[bytes | memoryview]], part: Path, comparison: Comparison, progress: Callable[[int], None]
) -> None:
    """Append what is missing, and let all of it be compared."""
    with part.open("a+b") as sink:
        sink.seek(0)
        while known := sink.read(CHUNK_BYTES):
            comparison.update(known)
        if there := sink.tell():
            progress(there)
        for chunk in fetch(there):
            comparison.update(chunk)
            sink.write(chunk)
            progress(len(chunk))
