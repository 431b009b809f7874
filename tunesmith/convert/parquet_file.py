"""Rows of parquet files, by pyarrow, which is an extra."""

from collections.abc import Iterator
from pathlib import Path

from tunesmith.convert.records import Record
from tunesmith.errors import InvalidArgument, TunesmithError

_BATCH_ROWS = 256


def read(path: Path) -> Iterator[Record]:
    """Every row with its number.

    Raises:
        TunesmithError: PYARROW_MISSING with the command that installs it.
        InvalidArgument: PARQUET_INVALID.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as missing:
        hint = "Install it: pip install 'tunesmith[parquet]'"
        raise TunesmithError("reading parquet needs pyarrow", reason="PYARROW_MISSING", hint=hint) from missing
    try:
        with parquet.ParquetFile(path) as source:
            rows = (row for batch in source.iter_batches(_BATCH_ROWS) for row in batch.to_pylist())
            for number, row in enumerate(rows, start=1):
                yield Record(number, row)
    except pyarrow.ArrowException as error:
        hint = "Check that the file is complete."
        raise InvalidArgument(f"{path} is not parquet: {error}", reason="PARQUET_INVALID", hint=hint) from error
