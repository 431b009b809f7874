"""The fast path: counts many plain rows at once at the speed of C, or says that it is in doubt; used by `checker`.

It takes only what `row` takes, and makes the same batch of it. Decoders keep the last of equal keys without a word; that none
was given twice follows from the double quotes: a block holds exactly those that the decoded keys and texts account for.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from services.storage.checking.example import ASSISTANT, SILENT, TURN_SEPARATOR, Batch, Format, Shape
from services.storage.checking.line_source import are_framed
from services.storage.checking.row import MAX_LABEL_LENGTH


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["system", "developer", "user", "assistant"]
    content: str
    weight: Literal[0, 1] | UnsetType = UNSET
    name: str | UnsetType = UNSET


class _Chat(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    messages: list[_Message]


class _Labeled(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    messages: list[_Message]
    label: str


class _Text(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    text: str


class _Input(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    messages: list[_Message]


class _Preference(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    input: _Input
    preferred_output: list[_Message]
    non_preferred_output: list[_Message]


class _Doubt(Exception):
    """The rows may be good or bad; the slow path decides."""


_STRINGS_OF_MESSAGE = 4  # two keys, two values


def read_plain(rows: Sequence[bytes], expected: Format, *, framed: bool = False) -> Batch | None:
    """The batch of these rows when all of them are plain good rows of the format, else None.

    `framed` says that every row is known to begin with { and to end with }.
    """
    decoder, count = _READERS[expected]
    text = b"\n".join(rows)
    try:
        # One row a line: the decoder itself does not mind two on a line, or one on two.
        if not framed and not are_framed(rows):
            return None
        decoded = decoder.decode_lines(text)
        return count(decoded, text) if len(decoded) == len(rows) else None
    except (msgspec.DecodeError, UnicodeDecodeError, _Doubt):
        return None


def _chat(rows: list[_Chat], text: bytes) -> Batch:
    conversations = [row.messages for row in rows]
    batch = _conversations(Format.CHAT, conversations, text, strings=1)
    for shape in set(batch.shapes):
        _require(ASSISTANT in shape and shape[0] != ASSISTANT)
    return batch


def _labeled(rows: list[_Labeled], text: bytes) -> Batch:
    labels = [row.label for row in rows]
    for label in set(labels):
        _require(bool(label.strip()) and len(label) <= MAX_LABEL_LENGTH and "\0" not in label)
    batch = _conversations(Format.LABELED, [row.messages for row in rows], text, strings=3, endings=labels)
    _require(all(set(batch.shapes)))
    return batch


def _preference(rows: list[_Preference], text: bytes) -> Batch:
    outputs = [(row.preferred_output, row.non_preferred_output) for row in rows]
    _require(not [1 for good, bad in outputs if len(good) != 1 or len(bad) != 1 or good[0].content == bad[0].content])
    conversations = [row.input.messages + good + bad for row, (good, bad) in zip(rows, outputs, strict=True)]
    batch = _conversations(Format.PREFERENCE, conversations, text, strings=4)
    for shape in set(batch.shapes):
        _require(len(shape) > 2 and shape[0] not in (ASSISTANT, SILENT) and shape[-2:] == (ASSISTANT, ASSISTANT))
    return batch


def _text(rows: list[_Text], text: bytes) -> Batch:
    texts = [row.text for row in rows]
    _require(not [1 for said in texts if not said or said.isspace()])
    joined = "".join(texts)
    _require(_quotes_of(joined, text) == 4 * len(rows))
    return Batch(Format.TEXT, [()] * len(rows), texts, [""] * len(rows), (), len(joined))


def _conversations(
    expected: Format,
    conversations: Sequence[list[_Message]],
    text: bytes,
    *,
    strings: int,
    endings: Sequence[str] = (),
) -> Batch:
    """The batch of conversations; `strings` is how many keys and texts a row has beside those of its messages."""
    lengths = list(map(len, conversations))
    contents = [message.content for messages in conversations for message in messages]
    kinds: list[str] = [message.role for messages in conversations for message in messages]
    texts = _parts(contents, lengths, TURN_SEPARATOR.join)
    if endings:
        texts = [said + TURN_SEPARATOR + ending for said, ending in zip(texts, endings, strict=True)]
    quotes = _quotes_of("".join(texts), text)
    expected_quotes = 2 * (strings * len(conversations) + _STRINGS_OF_MESSAGE * len(contents))
    if quotes != expected_quotes:
        messages = [message for messages in conversations for message in messages]
        _require(quotes == expected_quotes + _optional_quotes(messages))
        kinds = [_kind(message) for message in messages]
    shapes: list[Shape] = _parts(kinds, lengths, tuple)
    learns = [kind == ASSISTANT for kind in kinds]
    return Batch(
        expected,
        shapes,
        texts,
        endings or _endings(expected, conversations),
        _empty_contents(contents, lengths, conversations),
        _learned(expected, contents, learns, conversations),
    )


def _parts(values: Sequence[str], lengths: Sequence[int], make: Callable[[Iterable[str]], Any]) -> list[Any]:
    """`make` of as many values as each length says."""
    remaining = iter(values)
    if len(set(lengths)) == 1 and lengths[0]:
        # Conversations of one length are cut without a step in Python for each.
        return list(map(make, zip(*[remaining] * lengths[0], strict=True)))
    return [make(itertools.islice(remaining, length)) for length in lengths]


def _quotes_of(texts: str, block: bytes) -> int:
    """Double quotes in the block that are no part of the texts."""
    inside = texts.count('"')
    # A quote spelled as \u0022 would be missing from the block, and make room for a key that is given twice.
    _require(not inside or b"\\u0022" not in block)
    return block.count(b'"') - inside


def _optional_quotes(messages: Sequence[_Message]) -> int:
    weights = sum([message.weight is not UNSET for message in messages])
    names = [message.name for message in messages if isinstance(message.name, str)]
    joined = "".join(names)
    _require("\\" not in joined and '"' not in joined)
    return 2 * weights + 4 * len(names)


def _kind(message: _Message) -> str:
    if message.weight is UNSET:
        return message.role
    _require(message.role == ASSISTANT)
    return message.role if message.weight else SILENT


def _empty_contents(contents: Sequence[str], lengths: Sequence[int], conversations: Sequence[list[_Message]]) -> Sequence[int]:
    if not [1 for content in contents if not content or content.isspace()]:
        return ()
    _require(not [1 for messages in conversations for said in messages if not said.content and said.role == ASSISTANT])
    return _parts(contents, lengths, lambda part: sum(not said or said.isspace() for said in part))


def _endings(expected: Format, conversations: Sequence[list[_Message]]) -> Sequence[str]:
    if expected is Format.PREFERENCE:
        return [""] * len(conversations)
    return [messages[-1].content if messages else "" for messages in conversations]


def _learned(expected: Format, contents: Sequence[str], learns: Sequence[bool], conversations: Sequence[list[_Message]]) -> int:
    if expected is Format.LABELED:
        return 0
    if expected is Format.PREFERENCE:
        return sum([len(messages[-1].content) + len(messages[-2].content) for messages in conversations])
    return sum(map(len, itertools.compress(contents, learns)))


def _require(certain: bool) -> None:
    if not certain:
        raise _Doubt


_READERS: dict[Format, tuple[msgspec.json.Decoder[Any], Callable[[Any, bytes], Batch]]] = {
    Format.CHAT: (msgspec.json.Decoder(_Chat), _chat),
    Format.LABELED: (msgspec.json.Decoder(_Labeled), _labeled),
    Format.PREFERENCE: (msgspec.json.Decoder(_Preference), _preference),
    Format.TEXT: (msgspec.json.Decoder(_Text), _text),
}
