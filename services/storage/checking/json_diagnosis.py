"""Finds the first place where a text is not JSON, and names the mistake people make there; used by `json_text`.

It walks the text in Python, so it runs only over rows that the C parser has refused. Time is linear in the row; the depth was
checked before, so recursion is bounded.
"""

import json
import re
from typing import NoReturn

from services.storage.checking.json_number import floating, integer
from services.storage.checking.problem import RowProblem
from services.storage.checking.quoting import quoted

_BLANKS = re.compile(r"[ \t\n\r]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORD = re.compile(r"[-+]?[A-Za-z_$][\w$.]*|[-+.\d][\w.+-]*")
_PYTHON = {"True": "true", "False": "false", "None": "null"}
_NOT_NUMBERS = ("NaN", "Infinity", "-Infinity", "nan", "inf", "-inf", "-nan", "+Infinity", "Inf")
_UNICODE_MARKS = "\ufeff\u200b\u00a0\u2028"
_CURLY = "“”„‘’«»"


def explain(text: str) -> RowProblem:
    """The problem of a text that is not JSON as datasets want it."""
    try:
        _Walk(text).whole()
    except RowProblem as problem:
        return problem
    return RowProblem("DATASET_NOT_JSON", "", "the row is not JSON")


class _Walk:
    """One walk over a text; every method takes and returns positions, and raises RowProblem at the first mistake."""

    def __init__(self, text: str) -> None:
        self._text = text

    def whole(self) -> None:
        end = self._blanks(self._value(self._blanks(0), ""))
        if end == len(self._text):
            return
        rest = self._text[end]
        if rest in "{[":
            # Old Macs ended lines with a carriage return.
            gap = "; the lines end with a bare carriage return" if self._text[:end].endswith("\r") else ""
            self._fail("DATASET_SEVERAL_VALUES", "", f"a second value begins on the same line, at {self._near(end)}{gap}", end)
        if rest == ",":
            self._fail("DATASET_COMMA", "", "there is a comma after the row", end)
        if rest in "/#":
            self._comment(end, "")
        self._fail("DATASET_NOT_JSON", "", f"after the end of the row there is {self._near(end)}", end)

    def _value(self, at: int, path: str) -> int:
        char = self._text[at : at + 1]
        if char == "{":
            return self._object(at, path)
        if char == "[":
            return self._list(at, path)
        if char == '"':
            return self._string(at, path)
        for word in ("true", "false", "null"):
            if self._text.startswith(word, at) and not self._text[at + len(word) : at + len(word) + 1].isalnum():
                return at + len(word)
        return self._number(at, path)

    def _object(self, at: int, path: str) -> int:
        keys: set[str] = set()
        at = self._blanks(at + 1)
        if self._text[at : at + 1] == "}":
            return at + 1
        while True:
            key, at = self._key(at, path, keys)
            place = f"{path}.{key}" if path else key
            at = self._blanks(self._value(self._colon(at, place), place))
            if self._text[at : at + 1] == "}":
                return at + 1
            at = self._comma(at, path, "}")

    def _key(self, at: int, path: str, keys: set[str]) -> tuple[str, int]:
        if self._text[at : at + 1] != '"':
            self._no_value(at, path, "a key in double quotes")
        end = self._string(at, path)
        # Escapes may hide that two keys are equal.
        key = json.loads(self._text[at:end])
        if key in keys:
            self._fail("DATASET_DUPLICATE_KEY", path, f"the key {quoted(key)} is given twice in one object", at)
        keys.add(key)
        return key, end

    def _colon(self, at: int, path: str) -> int:
        at = self._blanks(at)
        if self._text[at : at + 1] != ":":
            self._no_value(at, path, 'a ":" after the key')
        return self._blanks(at + 1)

    def _list(self, at: int, path: str) -> int:
        at, index = self._blanks(at + 1), 0
        if self._text[at : at + 1] == "]":
            return at + 1
        while True:
            at = self._blanks(self._value(at, f"{path}[{index}]"))
            if self._text[at : at + 1] == "]":
                return at + 1
            at, index = self._comma(at, path, "]"), index + 1

    def _comma(self, at: int, path: str, closing: str) -> int:
        if self._text[at : at + 1] != ",":
            self._no_value(at, path, f'"," or "{closing}"')
        after = self._blanks(at + 1)
        if self._text[after : after + 1] in ("}", "]"):
            self._fail("DATASET_COMMA", path, f"there is a comma before the closing {self._text[after]!r}", at)
        return after

    def _string(self, at: int, path: str) -> int:
        start, at = at, at + 1
        while True:
            at = self._end_of(_PLAIN, at)
            char = self._text[at : at + 1]
            if char == '"':
                return at + 1
            if char != "\\":
                self._broken_string(char, start, at, path)
            if not (escape := _ESCAPE.match(self._text, at)):
                if at + 1 >= len(self._text):
                    self._broken_string("", start, at, path)
                self._fail("DATASET_ESCAPE", path, f"{quoted(self._text[at : at + 6])} is no escape that JSON knows", at)
            at = escape.end()

    def _broken_string(self, char: str, start: int, at: int, path: str) -> NoReturn:
        if not char:
            text = quoted(self._text[start : start + 40])
            self._fail("DATASET_TRUNCATED", path, f"the row ends inside the text that begins with {text}", start)
        if char == "\0":
            self._fail("DATASET_NUL", path, "there is a NUL byte in a text", at)
        name = {"\t": "a tab", "\n": "a line end", "\r": "a carriage return"}.get(
            char, f"the control character 0x{ord(char):02x}"
        )
        self._fail("DATASET_CONTROL_CHARACTER", path, f"{name} stands in a text without being escaped", at)

    def _number(self, at: int, path: str) -> int:
        found = _NUMBER.match(self._text, at)
        if not found or self._text[found.end() : found.end() + 1].isalnum() or self._text.startswith("-I", at):
            self._no_value(at, path, "a value")
        try:
            (floating if found[1] or found[2] else integer)(found[0])
        except ValueError as error:
            self._fail("DATASET_NUMBER", path, str(error), at)
        return found.end()

    def _no_value(self, at: int, path: str, wanted: str) -> NoReturn:
        """Names what stands at a place where `wanted` should."""
        char = self._text[at : at + 1]
        if not char:
            self._fail("DATASET_TRUNCATED", path, f"the row ends where {wanted} should be", at)
        if char in "/#":
            self._comment(at, path)
        self._special_character(char, at, path)
        word = found[0] if (found := _WORD.match(self._text, at)) else ""
        if word in _PYTHON:
            self._fail("DATASET_PYTHON", path, f"{word} is Python; in JSON it is {_PYTHON[word]}", at)
        if word in _NOT_NUMBERS:
            self._fail("DATASET_NUMBER", path, f"{word} is not a number in JSON", at)
        if char == ",":
            self._fail("DATASET_COMMA", path, f"there is a comma where {wanted} should be", at)
        self._fail("DATASET_NOT_JSON", path, f"there is {self._near(at)} where {wanted} should be", at)

    def _special_character(self, char: str, at: int, path: str) -> None:
        if char == "'":
            self._fail("DATASET_QUOTES", path, f"{self._near(at)} is in single quotes; JSON has double quotes", at)
        if char in _CURLY:
            self._fail("DATASET_QUOTES", path, f"{self._near(at)} is in typographic quotes; JSON has plain double quotes", at)
        if char == "\0":
            self._fail("DATASET_NUL", path, "there is a NUL byte", at)
        if char in _UNICODE_MARKS:
            what = "a byte order mark" if char == "\ufeff" else f"the invisible character U+{ord(char):04X}"
            self._fail("DATASET_INVISIBLE_CHARACTER", path, f"{what} stands between values", at)

    def _comment(self, at: int, path: str) -> NoReturn:
        self._fail("DATASET_COMMENT", path, f"there is a comment, {self._near(at)}; JSON has none", at)

    def _near(self, at: int) -> str:
        return quoted(self._text[at : at + 20])

    def _blanks(self, at: int) -> int:
        return self._end_of(_BLANKS, at)

    def _end_of(self, pattern: re.Pattern[str], at: int) -> int:
        found = pattern.match(self._text, at)
        return found.end() if found else at

    def _fail(self, reason: str, path: str, message: str, at: int) -> NoReturn:
        raise RowProblem(reason, _cut(path), message, offset=at)


def _cut(path: str) -> str:
    # A path holds keys of the row, which may be any text.
    return (path if len(path) <= 200 else path[:197] + "...").encode("utf-8", "replace").decode()
