"""A whole conversion: recognise the file, read, convert, write, and account for every row; used by `tunesmith data convert`."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tunesmith.convert import csv_file, json_file, parquet_file
from tunesmith.convert.columns import Columns
from tunesmith.convert.records import Record, Row, Unconvertible, with_system
from tunesmith.convert.shapes import OWN, Shape, shape_for
from tunesmith.errors import InvalidArgument
from tunesmith.transfers import require_file

Way = Callable[[Row], dict[str, Any]]
_READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    "json": json_file.read,
    "csv": csv_file.read,
    "parquet": parquet_file.read,
}
SOURCES = ("alpaca", "sharegpt", "prompt-completion", "trl-preference", "csv", "parquet")
TARGETS = ("chat", "preference", "text", "labeled")
FAILURES_KEPT = 100


@dataclass(frozen=True, slots=True)
class Failure:
    """A row that was left out. `number` is of its line, in parquet of the row."""

    number: int
    reason: str


@dataclass(slots=True)
class Conversion:
    """What happened. The first failures are kept, all are counted."""

    path: Path
    file_kind: str
    shape: str = ""
    target: str = ""
    converted_count: int = 0
    failure_count: int = 0
    failures: list[Failure] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user said; empty = recognise it."""

    source: str = ""
    target: str = ""
    columns: Columns = field(default_factory=Columns)
    system: str = ""
    """A system message for every conversation that has none."""

    @property
    def shape(self) -> str:
        """The shape of the rows, when the source is one."""
        return "" if self.source in _READERS else self.source


def convert(path: Path, sink: BinaryIO, wish: Wish) -> Conversion:
    """Write every row of `path` to `sink` as a line of JSON. Rows that cannot be converted are left out and accounted for.

    Raises:
        InvalidArgument: FORMAT_UNKNOWN, TARGET_UNKNOWN, FILE_EMPTY, FILE_NOT_UTF8, ALREADY_CONVERTED, or what the reader raises.
    """
    kind = file_kind(require_file(path), wish.source)
    try:
        return _convert(_READERS[kind](path), sink, wish, Conversion(path, kind))
    except UnicodeDecodeError as error:
        hint = "Save it as UTF-8: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW"
        raise InvalidArgument(f"{path} is not UTF-8", reason="FILE_NOT_UTF8", hint=hint) from error


def file_kind(path: Path, source: str = "") -> str:
    """`json`, `csv` or `parquet`: as told, else by the first bytes, else by the name."""
    if source in ("csv", "parquet"):
        return source
    with path.open("rb") as file:
        if file.read(4) == b"PAR1":
            return "parquet"
    return {".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}.get(path.suffix.lower(), "json")


def _convert(records: Iterator[Record], sink: BinaryIO, wish: Wish, conversion: Conversion) -> Conversion:
    way: Way | None = None
    for record in records:
        if way is None and not record.problem:
            way = _way(record.values, wish, conversion)
        try:
            sink.write(_line(with_system(_converted(record, way), wish.system)))
            conversion.converted_count += 1
        except Unconvertible as problem:
            _fail(conversion, Failure(record.number, str(problem)))
    if not conversion.converted_count and not conversion.failure_count:
        raise InvalidArgument(f"{conversion.path} holds no rows", reason="FILE_EMPTY", hint="Check that it is the right file.")
    return conversion


def _converted(record: Record, way: Way | None) -> dict[str, Any]:
    if record.problem or way is None:
        raise Unconvertible(record.problem)
    if not isinstance(record.values, dict):
        raise Unconvertible("is not an object")
    return way(record.values)


def _way(first: Any, wish: Wish, conversion: Conversion) -> Way:
    """How rows like the first become what is wanted."""
    shape = shape_for(first, wish.shape, wish.columns)
    _require_change(conversion, shape)
    conversion.shape, conversion.target = shape.name, wish.target or next(iter(shape.targets))
    if conversion.target not in shape.targets:
        hint = f"It can become: {', '.join(shape.targets)}."
        raise InvalidArgument(f"{shape.name} cannot become {conversion.target}", reason="TARGET_UNKNOWN", hint=hint)
    return shape.targets[conversion.target]


def _require_change(conversion: Conversion, shape: Shape) -> None:
    if conversion.file_kind == "json" and shape.name in OWN:
        hint = f"Upload it as it is: tunesmith data upload {conversion.path}"
        raise InvalidArgument(f"{conversion.path} is in the format {shape.name} already", reason="ALREADY_CONVERTED", hint=hint)


def _fail(conversion: Conversion, failure: Failure) -> None:
    conversion.failure_count += 1
    if len(conversion.failures) < FAILURES_KEPT:
        conversion.failures.append(failure)


def _line(row: dict[str, Any]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    except (ValueError, TypeError) as error:  # NaN, a lone surrogate, a date
        raise Unconvertible(f"cannot be written as JSON: {error}") from error
