"""Counts many plain conversations at once; used by `plain_rows`. Every step is one loop in C over all of their messages."""

import itertools
import operator
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from services.storage.checking.doubt import require
from services.storage.checking.example import ASSISTANT, SILENT, TURN_SEPARATOR, Batch, Format, Shape, counted

_STRINGS_OF_MESSAGE = 4  # two keys, two values
_ROLE, _CONTENT = operator.attrgetter("role"), operator.attrgetter("content")


class Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message that says a text and calls no tool."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str
    weight: Literal[0, 1] | UnsetType = UNSET
    name: str | UnsetType = UNSET


def count_conversations(
    expected: Format,
    conversations: Sequence[list[Message]],
    quotes: int | None,
    *,
    strings: int,
    labels: Sequence[str] = (),
) -> Batch:
    """The batch of conversations; raises Doubt.

    `quotes` are those of the whole block, `strings` is how many keys and texts a row has beside those of its messages. Without
    `quotes` it is known that no key was given twice.
    """
    messages = list(itertools.chain.from_iterable(conversations))
    contents: list[str] = list(map(_CONTENT, messages))
    lengths = list(map(len, conversations))
    # Conversations of one length are cut without a step in Python for each.
    length = lengths[0] if lengths.count(lengths[0]) == len(lengths) else 0
    texts = list(map(TURN_SEPARATOR.join, _cut(contents, lengths, length)))
    if labels:
        texts = [said + TURN_SEPARATOR + label for said, label in zip(texts, labels, strict=True)]
    further = -1
    if quotes is not None:
        known = 2 * (strings * len(conversations) + _STRINGS_OF_MESSAGE * len(messages))
        further = quotes - "".join(texts).count('"') - known
        require(not further or further == _optional_quotes(messages))
    kinds: list[str] = list(map(_kind if further else _ROLE, messages))
    shapes = _shapes(kinds, lengths, length)
    return Batch(
        expected,
        shapes,
        texts,
        labels or _endings(expected, conversations, contents, length),
        _empty_contents(messages, contents, lengths),
        _learned(expected, contents, kinds, shapes),
    )


def count_chats(conversations: Sequence[list[Any]], quotes: int | None = None) -> Batch:
    """The same of chat rows without tools, whose conversations must teach something."""
    batch = count_conversations(Format.CHAT, conversations, quotes, strings=1)
    for shape in counted(batch.shapes):
        require(ASSISTANT in shape and shape[0] != ASSISTANT)
    return batch


def _cut(values: Sequence[str], lengths: Sequence[int], length: int) -> Iterable[Iterable[str]]:
    """As many values as each length says; `length` is that of all, 0 = they differ."""
    remaining = iter(values)
    if length:
        return zip(*[remaining] * length, strict=True)
    return [list(itertools.islice(remaining, length)) for length in lengths]


def _shapes(kinds: list[str], lengths: Sequence[int], length: int) -> list[Shape]:
    if length and kinds == kinds[:length] * len(lengths):
        return [tuple(kinds[:length])] * len(lengths)
    return list(map(tuple, _cut(kinds, lengths, length)))


def _kind(message: Message) -> str:
    if message.weight is UNSET:
        return message.role
    require(message.role == ASSISTANT)
    return message.role if message.weight else SILENT


def _optional_quotes(messages: Sequence[Message]) -> int:
    weights = sum([message.weight is not UNSET for message in messages])
    names = [message.name for message in messages if isinstance(message.name, str)]
    return 2 * weights + 4 * len(names) + "".join(names).count('"')


def _empty_contents(messages: Sequence[Message], contents: Sequence[str], lengths: Sequence[int]) -> Sequence[int]:
    if all(contents) and not any(map(str.isspace, contents)):
        return ()
    require(not [1 for message in messages if not message.content and message.role == ASSISTANT])
    return [sum([not said or said.isspace() for said in part]) for part in _cut(contents, lengths, 0)]


def _endings(expected: Format, conversations: Sequence[list[Message]], contents: Sequence[str], length: int) -> Sequence[str]:
    if expected is Format.PREFERENCE:
        return [""] * len(conversations)
    if length:
        return contents[length - 1 :: length]
    return [messages[-1].content if messages else "" for messages in conversations]


def _learned(expected: Format, contents: Sequence[str], kinds: Sequence[str], shapes: Sequence[Shape]) -> int:
    if expected is Format.LABELED:
        return 0
    if expected is Format.PREFERENCE:
        # Only the outputs are learned, which are the last two.
        return sum(map(len, itertools.compress(contents, _last_two(shapes))))
    of_one_shape = len(counted(shapes)) == 1
    learns = itertools.cycle([kind == ASSISTANT for kind in shapes[0]]) if of_one_shape else [kind == ASSISTANT for kind in kinds]
    return sum(map(len, itertools.compress(contents, learns)))


def _last_two(shapes: Sequence[Shape]) -> Iterable[Any]:
    return itertools.chain.from_iterable([(False,) * (len(shape) - 2) + (True, True) for shape in shapes])
