"""Rows of CSV files: a header, then fields between commas, semicolons or tabs."""

import csv
from collections.abc import Iterator
from pathlib import Path

from tunesmith.convert.records import Record
from tunesmith.errors import InvalidArgument

_DELIMITERS = ",;\t|"
_LONGEST_FIELD = 64 * 1024 * 1024


def read(path: Path) -> Iterator[Record]:
    """Every row as an object with the header's names, with the line where it begins."""
    csv.field_size_limit(_LONGEST_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as source:
        delimiter = _delimiter(source.readline())
        source.seek(0)
        reader = csv.reader(source, delimiter=delimiter, strict=True)
        header = next(reader, [])
        if len(header) != len(set(header)):
            hint = "Give every column a name of its own."
            raise InvalidArgument(f"{path} has two columns of the same name", reason="CSV_HEADER_INVALID", hint=hint)
        while True:
            number = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Record(number, None, f"is not CSV: {error}")
                continue
            if fields:
                yield _record(number, header, fields)


def _record(number: int, header: list[str], fields: list[str]) -> Record:
    if len(fields) != len(header):
        return Record(number, None, f"has {len(fields)} fields, the header has {len(header)}")
    return Record(number, dict(zip(header, fields, strict=True)))


def _delimiter(header: str) -> str:
    """The one that the header has most of."""
    return max(_DELIMITERS, key=header.count)
