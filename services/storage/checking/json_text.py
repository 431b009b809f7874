"""Strict JSON: a row's bytes to a value, or the exact place and reason why not; used by `row`."""

import json
import re
from typing import Any, NoReturn

from services.storage.checking.json_diagnosis import explain
from services.storage.checking.json_number import floating, integer
from services.storage.checking.problem import RowProblem
from services.storage.checking.quoting import quoted

MAX_DEPTH = 32
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+\\?(?:"|\Z)', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")
_HALF_CHARACTER = re.compile(r"[\ud800-\udfff]")


class _Doubt(Exception):
    """The row is not JSON as we want it; the diagnosis finds out where and why."""


def parse(row: bytes) -> Any:
    """The value of a row without surrounding blanks; raises RowProblem."""
    text = _decoded(row)
    _check_depth(row)
    try:
        value = _DECODER.decode(text)
    except (_Doubt, ValueError, RecursionError) as error:
        raise explain(text) from error
    if b"\\u" in row:
        _check_halves(value, "")
    return value


def _decoded(row: bytes) -> str:
    try:
        return row.decode()
    except UnicodeDecodeError as error:
        before = row[: error.start].decode()
        after = f" after {quoted(before[-20:])}" if before else ""
        message = f"byte {error.start + 1} of the row, 0x{row[error.start]:02x}{after}, is not UTF-8"
        raise RowProblem("DATASET_NOT_UTF8", "", message, offset=len(before)) from error


def _check_depth(row: bytes) -> None:
    if (at := _too_deep(row)) is not None:
        message = f"the row nests deeper than {MAX_DEPTH} levels"
        raise RowProblem("DATASET_TOO_DEEP", "", message, offset=len(row[:at].decode()))


def is_too_deep(row: bytes) -> bool:
    """Whether JSON nests deeper than a row may; linear in the row."""
    return _too_deep(row) is not None


def _too_deep(row: bytes) -> int | None:
    """The byte of the first bracket that is one too many."""
    # Counting is cheap and settles nearly every row; only rows with many brackets are walked.
    if row.count(b"{") + row.count(b"[") <= MAX_DEPTH:
        return None
    depth = 0
    # Strings are blanked out, not cut out, so that places stay.
    for bracket in _BRACKETS.finditer(_STRINGS.sub(lambda found: b" " * len(found[0]), row)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > MAX_DEPTH:
            return bracket.start()
    return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _Doubt
    return result


def _refuse(constant: str) -> NoReturn:
    raise _Doubt


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse, parse_int=integer, parse_float=floating)


def _check_halves(value: Any, path: str) -> None:
    """JSON can spell half of a two-part character, which no UTF-8 file can hold."""
    if isinstance(value, str):
        if found := _HALF_CHARACTER.search(value):
            message = f"holds half a character: \\u{ord(found[0]):04x} without its partner, in {quoted(value[:40])}"
            raise RowProblem("DATASET_LONE_SURROGATE", path, message)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_halves(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_halves(key, path)
            _check_halves(item, f"{path}.{key}" if path else key)
