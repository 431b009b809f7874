"""Memory and time of one big upload through a whole local stack: `python -m tests.bench.upload [--size-mb 10000] [--parts]`.

Peaks are what the system counts (VmHWM): of the storage service and the object store since their start, and of each checking
process. A small file goes before the big one, so that what a process needs anyway is known.
"""

import argparse
import contextlib
import pathlib
import tempfile
import threading
import time
from collections.abc import Iterator

import psutil

from tests.bench import rows
from tests.e2e.local_stack import LocalStack, local_stack
from tunesmith import Client

_SMALL_MB = 100
_PIECE = 2**20
_CHECKER = "services.storage.checking"


def main() -> None:
    """Prints a row for a small file and one for the big file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mb", type=int, default=10_000)
    parser.add_argument("--parts", action="store_true", help="by presigned parts instead of the stream of UploadDataset")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, local_stack(pathlib.Path(directory) / "data", "--no-base-model") as stack:
        print("| upload | MB | seconds | MB/s | storage, MiB | checker, MiB | object store, MiB |\n|---|---|---|---|---|---|---|")
        for size_mb in (_SMALL_MB, options.size_mb):
            with big_file(pathlib.Path(directory), size_mb) as file:
                upload(stack, file, in_parts=options.parts)


@contextlib.contextmanager
def big_file(directory: pathlib.Path, size_mb: int) -> Iterator[pathlib.Path]:
    """A file of rows of 300 bytes, the first quarter of it different ones; it is gone after the block."""
    path = directory / f"{size_mb}.jsonl"
    with path.open("wb") as file:
        file.writelines(rows.lines(rows.chat_rows(300, rows.ASCII), size_mb * 250_000))
    quarter = path.stat().st_size
    with path.open("rb") as source, path.open("ab") as file:
        for _ in range(3):
            # Making rows takes longer than checking them.
            source.seek(0)
            for _ in range(quarter // _PIECE + 1):
                file.write(source.read(min(_PIECE, quarter - source.tell())))
    try:
        yield path
    finally:
        path.unlink()


def upload(stack: LocalStack, file: pathlib.Path, *, in_parts: bool) -> None:
    """Stores the file, prints what that took, and deletes it."""
    storage, store = stack.pid("storage"), stack.pid("object_store")
    with Client(storage=stack.state()["addresses"]["storage"]) as client, Checkers(storage) as checkers:
        begin = time.monotonic()
        dataset = client.upload_dataset_in_parts(file) if in_parts else client.upload_dataset(file)
        took = time.monotonic() - begin
        client.delete_dataset(dataset.name)
    size = file.stat().st_size / 1e6
    memory = f"{peak(storage)} | {checkers.peak} | {peak(store)}"
    kind = "parts" if in_parts else "stream"
    print(f"| {kind} | {size:.0f} | {took:.0f} | {size / took:.0f} | {memory} |", flush=True)


class Checkers:
    """Looks for checking processes below a service, and how big they get, until the block ends."""

    def __init__(self, service: int) -> None:
        self._service = psutil.Process(service)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.peak = 0

    def __enter__(self) -> "Checkers":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            with contextlib.suppress(psutil.Error, OSError):
                found = [child for child in self._service.children() if _CHECKER in child.cmdline()]
                self.peak = max([self.peak, *(peak(child.pid) for child in found)])


def peak(pid: int) -> int:
    """The most memory a process has had at once, in MiB."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    return 0


if __name__ == "__main__":
    main()
