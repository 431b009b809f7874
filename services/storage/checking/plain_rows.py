"""The fast path: counts many plain rows at once at the speed of C, or says that it is in doubt; used by `block_reader`.

It takes only what `row` takes, and makes the same batch of it. Decoders keep the last of equal keys without a word; that none
was given twice follows from the double quotes: a block holds exactly those that the decoded keys and texts account for.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from services.storage.checking.conversations import Message, count_chats, count_conversations
from services.storage.checking.doubt import Doubt, require
from services.storage.checking.example import ASSISTANT, SILENT, Batch, Format, counted
from services.storage.checking.further_keys import Keys, further_of, open_to
from services.storage.checking.json_number import MAX_INTEGER_DIGITS
from services.storage.checking.row import MAX_LABEL_LENGTH
from services.storage.checking.trusted_json import quotes

_Count = Callable[[Any, int], Batch]
"""Makes the batch of decoded rows, given the double quotes of their block beside those of further keys; raises Doubt."""


class _Chat(msgspec.Struct, gc=False):
    messages: list[Message]


class _Labeled(msgspec.Struct, gc=False):
    messages: list[Message]
    label: str | int


class _Text(msgspec.Struct, gc=False):
    text: str


class _Input(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    messages: list[Message]


class _Preference(msgspec.Struct, gc=False):
    input: _Input
    preferred_output: list[Message]
    non_preferred_output: list[Message]


def read_plain(expected: Format, text: bytes, further: Keys = ()) -> Batch | None:
    """The batch of rows when all of them are plain good rows of the format, with no other keys than `further`, else None.

    `text` holds one row a line, each of which begins with { and ends with }: a decoder does not mind two rows on a line, or one
    on two.
    """
    try:
        rows = _decoder(expected, further).decode_lines(text)
        require(len(rows) == text.count(b"\n") + 1)
        ignored, quotes_of_further = further_of(rows, further, expected)
        batch = _COUNTS[expected](rows, quotes(text) - quotes_of_further)
    except (msgspec.DecodeError, UnicodeDecodeError, Doubt):
        return None
    return msgspec.structs.replace(batch, ignored_keys=ignored) if ignored else batch


@functools.lru_cache
def _decoder(expected: Format, further: Keys) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(open_to(_ROWS[expected], further))


def _chat(rows: Sequence[_Chat], quoted: int) -> Batch:
    return count_chats([row.messages for row in rows], quoted)


def _labeled(rows: Sequence[_Labeled], quoted: int) -> Batch:
    numbers = [row.label for row in rows if not isinstance(row.label, str)]
    require(all(abs(number) < 10**MAX_INTEGER_DIGITS for number in set(numbers)))
    labels = [str(row.label) for row in rows]
    for label in set(labels):
        require(bool(label.strip()) and len(label) <= MAX_LABEL_LENGTH and "\0" not in label)
    # A number has no quotes, which every label is expected to have.
    expected = quoted + 2 * len(numbers)
    batch = count_conversations(Format.LABELED, [row.messages for row in rows], expected, strings=3, labels=labels)
    require(all(counted(batch.shapes)))
    return batch


def _preference(rows: Sequence[_Preference], quoted: int) -> Batch:
    outputs = [(row.preferred_output, row.non_preferred_output) for row in rows]
    require(not [1 for good, bad in outputs if len(good) != 1 or len(bad) != 1 or good[0].content == bad[0].content])
    conversations = [row.input.messages + good + bad for row, (good, bad) in zip(rows, outputs, strict=True)]
    batch = count_conversations(Format.PREFERENCE, conversations, quoted, strings=4)
    for shape in counted(batch.shapes):
        require(len(shape) > 2 and shape[0] not in (ASSISTANT, SILENT) and shape[-2:] == (ASSISTANT, ASSISTANT))
    return batch


def _text(rows: Sequence[_Text], quoted: int) -> Batch:
    texts = [row.text for row in rows]
    require(all(texts) and not any(map(str.isspace, texts)))
    joined = "".join(texts)
    require(quoted - joined.count('"') == 4 * len(rows))
    return Batch(Format.TEXT, [()] * len(rows), texts, [""] * len(rows), (), len(joined))


_ROWS: Mapping[Format, type[msgspec.Struct]] = {
    Format.CHAT: _Chat,
    Format.LABELED: _Labeled,
    Format.PREFERENCE: _Preference,
    Format.TEXT: _Text,
}
_COUNTS: Mapping[Format, _Count] = {
    Format.CHAT: _chat,
    Format.LABELED: _labeled,
    Format.PREFERENCE: _preference,
    Format.TEXT: _text,
}
