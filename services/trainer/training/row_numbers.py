"""Which rows of a dataset the rows of a composed file are, so that people are told numbers they can look up.

The trainer's face writes them, a number a line, when it composes the training data of one dataset; standard library only.
"""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path


def numbers_beside(path: Path) -> Path:
    """Of the numbers of the rows of this file."""
    return path.with_name(f"{path.name}.rows")


@contextlib.contextmanager
def row_numbers(path: Path) -> Iterator[Iterator[int]]:
    """The number of each line, in order; without a file of them, lines count from 1."""
    try:
        lines = numbers_beside(path).open("rb")
    except FileNotFoundError:
        yield itertools.count(1)
        return
    with lines:
        yield map(int, lines)
