"""The process that checks one dataset: bytes in, rows and one JSON line out; started by `client` and by the CLI's `data check`.

It ends with 0 whatever the verdict, with 28 when the disk is full, and with anything else when it failed.
"""

import argparse
import contextlib
import errno
import gc
import json
import os
import resource
import sys
from collections.abc import Iterator
from typing import BinaryIO

from services.storage.checking.budget import Budget
from services.storage.checking.checker import DatasetChecker
from services.storage.checking.outputs import DroppedOutput, RowsOutput

MAX_ADDRESS_SPACE = 2 * 2**30
_CHUNK_BYTES = 2**18
"""What stays in a processor's cache while it is looked at several times."""


def main(arguments: list[str] | None = None) -> int:
    """Checks what comes from --file or stdin, and prints the outcome."""
    options = _options().parse_args(arguments)
    _set_limits()
    # Rows hold no reference cycles; looking for some takes a tenth of the time.
    gc.disable()
    try:
        with _written(options.rows_fd) as rows, _written(options.dropped_fd) as dropped, _read(options.file) as source:
            budget = Budget(options.max_invalid_rows, options.max_invalid_ratio)
            checker = DatasetChecker(RowsOutput(rows), DroppedOutput(dropped), budget)
            while chunk := source.read(_CHUNK_BYTES):
                checker.feed(chunk)
            outcome = checker.finish()
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return errno.ENOSPC if error.errno in (errno.ENOSPC, errno.EDQUOT) else 1
    sys.stdout.write(json.dumps(outcome) + "\n")
    return 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.storage.checking", description="Checks a dataset.")
    parser.add_argument("--file", metavar="PATH", help="what to check; default: stdin")
    parser.add_argument("--rows-fd", type=int, metavar="N", help="file descriptor for usable rows")
    parser.add_argument("--dropped-fd", type=int, metavar="N", help="file descriptor for left-out rows")
    parser.add_argument("--max-invalid-rows", type=int, metavar="N", help="bad rows that may be left out")
    parser.add_argument("--max-invalid-ratio", type=float, metavar="X", help="share of bad rows that may be left out")
    return parser


def _set_limits() -> None:
    """A row that makes the decoder ask for too much memory ends this process, not the machine."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = MAX_ADDRESS_SPACE if hard == resource.RLIM_INFINITY else min(MAX_ADDRESS_SPACE, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextlib.contextmanager
def _written(descriptor: int | None) -> Iterator[BinaryIO | None]:
    if descriptor is None:
        yield None
        return
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        yield file


@contextlib.contextmanager
def _read(path: str | None) -> Iterator[BinaryIO]:
    if path is None:
        yield sys.stdin.buffer
        return
    with open(path, "rb", buffering=0) as file:
        yield file


if __name__ == "__main__":
    sys.exit(main())
