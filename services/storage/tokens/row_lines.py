"""Rows from a pipe; used by every command of the worker that takes rows."""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from services.common.errors import ServiceError

Row = dict[str, Any]


def read_rows(stream: BinaryIO, first: int = 1) -> Iterator[tuple[int, Row]]:
    """(number, row) of each line, holding one line; raises ServiceError (DATASET_UNUSABLE) for what is no JSON object."""
    for number, line in enumerate(filter(bytes.strip, stream), start=first):
        yield number, _row(line, number)


def unusable(number: int, why: str) -> ServiceError:
    """The row is not what the dataset check lets through."""
    return ServiceError("DATASET_UNUSABLE", f"row {number} {why}", metadata={"row": str(number)})


def _row(line: bytes, number: int) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise unusable(number, f"is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise unusable(number, "is not an object")
    return row
