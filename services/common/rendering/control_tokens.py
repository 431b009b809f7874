"""Control tokens that somebody wrote into a message stay plain text; used by the renderer.

`<|im_end|>` in the text of a user must not end the user's turn: not in training, where it would teach the model to take orders
from data, and not in serving, where it would let the data give them. A tokenizer cannot tell who wrote it, as it sees only the
finished text. So:

1. When no text of the conversation holds a control token, which is nearly always, the finished text is encoded as it is. The ids
   are exactly those of the tokenizer.
2. Otherwise the conversation is rendered once more with a mark inside each control token in its texts. Where the marks come out
   is where the template put what people wrote. The finished text is encoded as it is, and each control token at such a place is
   replaced by the ids of its letters: the tokenizer with `encode_special_tokens` set reads them as plain text.

Turning that setting on for the whole text would also unmake the template's own tokens; encoding content by content would change
the ids of all other texts, since a tokenizer may merge what a template writes beside a content with the content.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from tokenizers import Encoding, Tokenizer

from services.common.rendering.conversation import Conversation
from services.common.rendering.error import unusable_row

Span = tuple[int, int]
# Code points that Unicode promises never to assign, so that no text means anything by them and no template looks for them.
_MARKS = tuple(map(chr, range(0xFDD0, 0xFDF0)))


@dataclass(frozen=True, slots=True)
class Encoded:
    """Ids of a text, and the characters [start, end) each stands for."""

    ids: list[int]
    offsets: list[Span]


class ControlTokens:
    """The control tokens of one tokenizer, and how to encode texts that hold them as plain text."""

    def __init__(self, tokenizer: Tokenizer, stop_ids: Iterable[int]) -> None:
        """Control tokens are the added tokens that the tokenizer calls special or that end a text."""
        added = tokenizer.get_added_tokens_decoder()
        stops = set(stop_ids)
        self._tokenizer = tokenizer
        self._texts = {index: token.content for index, token in added.items() if token.special or index in stops}
        longest_first = sorted(self._texts.values(), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def are_in(self, conversation: Conversation) -> bool:
        """Whether some text of the conversation holds one."""
        return conversation.has_text(self._pattern.search)

    def marked(self, conversation: Conversation) -> tuple[Conversation, str]:
        """The conversation with a mark behind the first character of each control token in its texts, and the mark."""
        mark = next((mark for mark in _MARKS if not conversation.has_text(re.compile(mark).search)), None)
        if mark is None:
            raise unusable_row("the messages hold every noncharacter of Unicode")
        return conversation.map_texts(lambda text: self._pattern.sub(lambda token: token[0][0] + mark + token[0][1:], text)), mark

    def starts(self, text: str) -> list[int]:
        """Where control tokens begin in a text that somebody wrote."""
        return [match.start() for match in self._pattern.finditer(text)]

    def encode(self, text: str, foreign: Iterable[int] = ()) -> Encoded:
        """`foreign`: where control tokens begin that are to be plain text. Raises RenderError when one cannot be."""
        # The template has written BOS and all other control tokens; the tokenizer must not add its own.
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        ids, offsets = encoding.ids, encoding.offsets
        self._check(text, ids, offsets)
        places = set(foreign)
        return self._without(text, ids, offsets, places) if places else Encoded(ids, offsets)

    def _check(self, text: str, ids: list[int], offsets: list[Span]) -> None:
        """A tokenizer that normalizes may read a control token where the text has other letters, such as full-width ones."""
        for token, (start, end) in zip(ids, offsets, strict=True):
            if token in self._texts and self._texts[token] not in text[start:end]:
                raise unusable_row(f"{text[start:end][:60]!r} would be read as the control token {self._texts[token]}")

    def _without(self, text: str, ids: list[int], offsets: list[Span], places: set[int]) -> Encoded:
        result = Encoded([], [])
        for token, (start, end) in zip(ids, offsets, strict=True):
            if token in self._texts and not places.isdisjoint(range(start, end)):
                letters = self._letters(text[start:end], self._texts[token])
                result.ids.extend(letters.ids)
                result.offsets.extend((start + first, start + last) for first, last in letters.offsets)
            else:
                result.ids.append(token)
                result.offsets.append((start, end))
        return result

    def _letters(self, text: str, token: str) -> Encoding:
        letters = self._plain_tokenizer.encode(text, add_special_tokens=False)
        if not self._texts.keys().isdisjoint(letters.ids):
            raise unusable_row(f"a message holds {token}, which this tokenizer cannot write as plain text")
        return letters

    @cached_property
    def _plain_tokenizer(self) -> Tokenizer:
        description = json.loads(self._tokenizer.to_str())
        for token in description["added_tokens"]:
            # Only tokens called special are left alone; one that ends a text is a control token whatever the file calls it.
            token["special"] = token["special"] or token["id"] in self._texts
        tokenizer = Tokenizer.from_str(json.dumps(description))
        tokenizer.encode_special_tokens = True
        return tokenizer
