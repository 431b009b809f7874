"""Rows of JSON files: an object a line, or one array, read piece by piece."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tunesmith.convert.records import Record
from tunesmith.errors import InvalidArgument

_CHUNK_CHARACTERS = 256 * 1024
_LONGEST_ROW = 64 * 1024 * 1024
_DECODER = json.JSONDecoder()
_BLANK = re.compile(r"[ \t\r\n]*")


def read(path: Path) -> Iterator[Record]:
    """Every row with the line where it begins."""
    with path.open(encoding="utf-8-sig", newline="\n") as source:
        window = _Window(source)
        yield from _elements(window) if window.next_character() == "[" else _lines(window)


class _Window:
    """The part of a file that is looked at. `at` is the first character that is not yet read, `line` the line it stands on."""

    def __init__(self, source: TextIO) -> None:
        self.text = ""
        self.at = 0
        self.line = 1
        self._source = source

    def more(self) -> bool:
        """Look further, twice as far each time; False at the end of the file.

        Raises:
            InvalidArgument: ROW_TOO_LONG.
        """
        self.text, self.at = self.text[self.at :], 0
        if len(self.text) > _LONGEST_ROW:
            hint = "Give JSON lines or one JSON array of objects."
            raise InvalidArgument(f"line {self.line}: a row never ends", reason="ROW_TOO_LONG", hint=hint)
        piece = self._source.read(max(_CHUNK_CHARACTERS, len(self.text)))
        self.text += piece
        return bool(piece)

    def read_to(self, end: int) -> str:
        """What stands before `end`, which is read from now on."""
        piece = self.text[self.at : end]
        self.line += piece.count("\n")
        self.at = end
        return piece

    def next_character(self) -> str:
        """The next that is not white space; empty at the end of the file."""
        while True:
            blank = _BLANK.match(self.text, self.at)
            self.read_to(blank.end() if blank else self.at)
            if self.at < len(self.text) or not self.more():
                return self.text[self.at : self.at + 1]


def _lines(window: _Window) -> Iterator[Record]:
    while window.next_character():
        while (end := window.text.find("\n", window.at)) < 0 and window.more():
            pass
        number = window.line
        yield _parsed(window.read_to(end if end >= 0 else len(window.text)), number)


def _parsed(line: str, number: int) -> Record:
    try:
        return Record(number, json.loads(line))
    except json.JSONDecodeError as error:
        return Record(number, None, f"is not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        return Record(number, None, f"is not JSON: {error}")


def _elements(window: _Window) -> Iterator[Record]:
    """Of an array. What follows an element that is no JSON cannot be found."""
    window.read_to(window.at + 1)
    while (character := window.next_character()) not in ("", "]"):
        if character == ",":
            window.read_to(window.at + 1)
            continue
        record = _element(window)
        yield record
        if record.problem:
            return
    if not character:
        yield Record(window.line, None, "the array has no end: the file is cut")


def _element(window: _Window) -> Record:
    while True:
        try:
            value, end = _DECODER.raw_decode(window.text, window.at)
        except json.JSONDecodeError as error:
            # Close to the end, or within a text, it may only be that the rest has not been looked at yet.
            cut = error.msg.startswith("Unterminated") or error.pos > len(window.text) - 16
            line, problem = window.line + window.text.count("\n", window.at, error.pos), f"is not JSON: {error.msg}"
            if not cut or not window.more():
                return Record(line, None, problem)
        except (ValueError, RecursionError) as error:
            return Record(window.line, None, f"is not JSON: {error}")
        else:
            number = window.line
            window.read_to(end)
            return Record(number, value)
