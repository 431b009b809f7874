"""The fast path: counts many plain rows at once at the speed of C, or says that it is in doubt; used by `block_reader`.

It takes only what `row` takes, and makes the same batch of it. Decoders keep the last of equal keys without a word; that none
was given twice follows from the double quotes: a block holds exactly those that the decoded keys and texts account for.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from services.storage.checking.conversations import Message, count_conversations
from services.storage.checking.doubt import Doubt, require
from services.storage.checking.example import ASSISTANT, SILENT, Batch, Format, counted
from services.storage.checking.line_source import are_framed
from services.storage.checking.problem import RowProblem
from services.storage.checking.row import MAX_LABEL_LENGTH, ignored_in
from services.storage.checking.trusted_json import quotes

_Count = Callable[[Any, int | None], Batch]
"""Makes the batch of decoded rows and the double quotes of their block; without these, no key is given twice for certain."""
_Reader = tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[Any], _Count]
"""Decoders without and with other keys."""


class _Chat(msgspec.Struct, gc=False):
    messages: list[Message]


class _Labeled(msgspec.Struct, gc=False):
    messages: list[Message]
    label: str


class _Text(msgspec.Struct, gc=False):
    text: str


class _Input(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    messages: list[Message]


class _Preference(msgspec.Struct, gc=False):
    input: _Input
    preferred_output: list[Message]
    non_preferred_output: list[Message]


def read_plain(rows: Sequence[bytes], expected: Format, text: bytes, *, framed: bool = False) -> Batch | None:
    """The batch of these rows when all of them are plain good rows of the format without other keys, else None.

    `text` holds one row a line. `framed` says that every row is known to begin with { and to end with }.
    """
    decoder, _, count = _READERS[expected]
    try:
        # One row a line: the decoder itself does not mind two on a line, or one on two.
        if not framed and not are_framed(rows):
            return None
        decoded = decoder.decode_lines(text)
        return count(decoded, quotes(text)) if len(decoded) == len(rows) else None
    except (msgspec.DecodeError, UnicodeDecodeError, Doubt):
        return None


def read_open(values: Sequence[dict[str, Any]], expected: Format, text: bytes) -> Batch | None:
    """The same for rows with other keys; `values` are those of the rows, which shows that their JSON is good."""
    _, decoder, count = _READERS[expected]
    try:
        # Tools are for `tool_rows`.
        require(not any("tools" in value or "parallel_tool_calls" in value for value in values))
        ignored = ignored_in(values, expected)
        batch = count(decoder.decode_lines(text), None)
    except (msgspec.DecodeError, Doubt, RowProblem):
        return None
    return msgspec.structs.replace(batch, ignored_keys=ignored) if any(ignored) else batch


def _chat(rows: Sequence[_Chat], quoted: int | None) -> Batch:
    batch = count_conversations(Format.CHAT, [row.messages for row in rows], quoted, strings=1)
    for shape in counted(batch.shapes):
        require(ASSISTANT in shape and shape[0] != ASSISTANT)
    return batch


def _labeled(rows: Sequence[_Labeled], quoted: int | None) -> Batch:
    labels = [row.label for row in rows]
    for label in set(labels):
        require(bool(label.strip()) and len(label) <= MAX_LABEL_LENGTH and "\0" not in label)
    batch = count_conversations(Format.LABELED, [row.messages for row in rows], quoted, strings=3, labels=labels)
    require(all(counted(batch.shapes)))
    return batch


def _preference(rows: Sequence[_Preference], quoted: int | None) -> Batch:
    outputs = [(row.preferred_output, row.non_preferred_output) for row in rows]
    require(not [1 for good, bad in outputs if len(good) != 1 or len(bad) != 1 or good[0].content == bad[0].content])
    conversations = [row.input.messages + good + bad for row, (good, bad) in zip(rows, outputs, strict=True)]
    batch = count_conversations(Format.PREFERENCE, conversations, quoted, strings=4)
    for shape in counted(batch.shapes):
        require(len(shape) > 2 and shape[0] not in (ASSISTANT, SILENT) and shape[-2:] == (ASSISTANT, ASSISTANT))
    return batch


def _text(rows: Sequence[_Text], quoted: int | None) -> Batch:
    texts = [row.text for row in rows]
    require(all(texts) and not any(map(str.isspace, texts)))
    joined = "".join(texts)
    require(quoted is None or quoted - joined.count('"') == 4 * len(rows))
    return Batch(Format.TEXT, [()] * len(rows), texts, [""] * len(rows), (), len(joined))


def _reader(row: type[msgspec.Struct], count: _Count) -> _Reader:
    closed = msgspec.defstruct(row.__name__, [], bases=(row,), forbid_unknown_fields=True, gc=False)
    return msgspec.json.Decoder(closed), msgspec.json.Decoder(row), count


_READERS: Mapping[Format, _Reader] = {
    Format.CHAT: _reader(_Chat, _chat),
    Format.LABELED: _reader(_Labeled, _labeled),
    Format.PREFERENCE: _reader(_Preference, _preference),
    Format.TEXT: _reader(_Text, _text),
}
