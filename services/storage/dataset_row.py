"""One row of a dataset: what it must look like, and for a bad one the place, the reason and the way to mend it.

Used by `dataset_validation`. The fast path accepts exactly the plain shape; whatever it does not accept is judged by the slow
path, which is the definition of a good row.
"""

import collections
import json
import re
from typing import Annotated, Any, Literal, NoReturn

import msgspec

from services.storage import row_suggestion

MAX_DEPTH = 32
ROLES = ("system", "user", "assistant")

_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+\\?(?:"|\Z)', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")
# An escaped ASCII character may hide a key; only the slow path compares keys after decoding.
_ASCII_ESCAPE = re.compile(rb"\\u00[0-7]", re.IGNORECASE)
_MAX_INTEGER_DIGITS = 19


class Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One turn."""

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, msgspec.Meta(min_length=1)]
    weight: Literal[0, 1] = 1
    name: str = ""


class _PlainRow(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]


class RowProblem(Exception):
    """The first thing wrong with a row: `path` in the row (empty = the whole), `reason` from the catalogue, `message`."""

    def __init__(self, reason: str, path: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.path, self.message = reason, path, message


_decoder = msgspec.json.Decoder(_PlainRow)


def read_row(line: bytes) -> list[Message]:
    """The messages of a row; raises RowProblem. `line` is not blank and has no line end."""
    messages = _read_plain(line) or _read_any(line)
    if messages[-1].role != "assistant":
        last = f"messages[{len(messages) - 1}].role"
        said = any(message.role == "assistant" for message in messages)
        why = f"the last message is of the {messages[-1].role}" if said else "no message is of the assistant"
        raise RowProblem("DATASET_NO_ASSISTANT", last if said else "messages", f"{why}; the row must end with the assistant's")
    return messages


def _read_plain(line: bytes) -> list[Message] | None:
    try:
        messages = _decoder.decode(line).messages
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    # The decoder takes the last of equal keys without a word: as many keys as messages means that none was given twice.
    count = len(messages)
    plain = line.count(b'"messages"') == 1 and line.count(b'"role"') == count and line.count(b'"content"') == count
    return messages if plain and b'"weight"' not in line and b'"name"' not in line and not _ASCII_ESCAPE.search(line) else None


def _read_any(line: bytes) -> list[Message]:
    row = _parse(line)
    if not isinstance(row, dict):
        raise RowProblem("DATASET_NOT_OBJECT", "", f"the row is {_kind(row)}, not an object")
    if "messages" not in row:
        raise RowProblem("DATASET_MESSAGES_MISSING", "messages", row_suggestion.for_missing_messages(row))
    messages = row["messages"]
    if not isinstance(messages, list):
        raise RowProblem("DATASET_MESSAGES_MISSING", "messages", f"is {_kind(messages)}, not a list")
    if not messages:
        raise RowProblem("DATASET_MESSAGES_MISSING", "messages", "the list is empty")
    return [_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _message(message: Any, path: str) -> Message:
    if not isinstance(message, dict):
        raise RowProblem("DATASET_MESSAGE_MALFORMED", path, f"is {_kind(message)}, not an object")
    for key in ("role", "content"):
        if key not in message:
            description = row_suggestion.for_missing_key(key, message)
            raise RowProblem("DATASET_MESSAGE_MALFORMED", f"{path}.{key}", description)
    role, content = message["role"], message["content"]
    if not isinstance(role, str) or role not in ROLES:
        raise RowProblem("DATASET_ROLE_UNKNOWN", f"{path}.role", row_suggestion.for_role(role, ROLES))
    _check_content(content, f"{path}.content")
    _check_extras(message, path)
    return Message(role=role, content=content)  # type: ignore[arg-type]


def _check_content(content: Any, path: str) -> None:
    if not isinstance(content, str):
        raise RowProblem("DATASET_CONTENT_INVALID", path, f"is {_kind(content)}, not a text")
    if not content:
        raise RowProblem("DATASET_CONTENT_INVALID", path, "is empty")
    try:
        content.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(content[error.start]):04x}"
        raise RowProblem("DATASET_CONTENT_INVALID", path, f"holds half a character: {half} without its partner") from error


def _check_extras(message: dict[str, Any], path: str) -> None:
    weight = message.get("weight", 1)
    if isinstance(weight, bool) or weight not in (0, 1):
        raise RowProblem("DATASET_MESSAGE_MALFORMED", f"{path}.weight", f"{row_suggestion.quoted(weight)} is neither 0 nor 1")
    if not isinstance(message.get("name", ""), str):
        raise RowProblem("DATASET_MESSAGE_MALFORMED", f"{path}.name", f"is {_kind(message['name'])}, not a text")


def _parse(line: bytes) -> Any:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        message = f"byte {error.start + 1} of the line, 0x{line[error.start]:02x}, is not UTF-8"
        raise RowProblem("DATASET_NOT_UTF8", "", message) from error
    _check_depth(line)
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_floating)
    except json.JSONDecodeError as error:
        near = row_suggestion.quoted(text[error.pos : error.pos + 20]) if error.pos < len(text) else "the end of the line"
        raise RowProblem("DATASET_NOT_JSON", "", f"{error.msg} at character {error.pos + 1}, at {near}") from error


def _check_depth(line: bytes) -> None:
    # Counting is cheap and settles nearly every row; only rows with many brackets are walked.
    if line.count(b"{") + line.count(b"[") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _BRACKETS.finditer(_STRINGS.sub(b"", line)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > MAX_DEPTH:
            raise RowProblem("DATASET_TOO_DEEP", "", f"the row nests deeper than {MAX_DEPTH} levels")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice, _ = collections.Counter(key for key, _ in pairs).most_common(1)[0]
        raise RowProblem("DATASET_NOT_JSON", "", f"the key {row_suggestion.quoted(twice)} is given twice in one object")
    return result


def _constant(text: str) -> NoReturn:
    raise RowProblem("DATASET_NOT_JSON", "", f"{text} is not JSON")


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > _MAX_INTEGER_DIGITS:
        raise RowProblem("DATASET_NOT_JSON", "", f"the number {text[:20]}... has more than {_MAX_INTEGER_DIGITS} digits")
    return int(text)


def _floating(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise RowProblem("DATASET_NOT_JSON", "", f"the number {text[:20]} is too large")
    return value


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {bool: "true or false", str: "a text", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a number")
