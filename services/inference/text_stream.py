"""Token ids to text while they come: whole characters only, and never a part of a stop text; used by the answer flow."""

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Detokenizer:
    """Text of each new token, decoded in the context of the ones before, since tokens may join or split characters.

    `before` are tokens that stand before the first one: some tokenizers leave out the space that begins a text.
    """

    def __init__(self, decode: Decode, before: Sequence[int] = ()) -> None:
        self._decode = decode
        self._ids = list(before)
        # Ids before `_context` are done with; those up to `_shown` have been given out and are kept as context only.
        self._context = 0
        self._shown = len(self._ids)

    def push(self, token_id: int) -> str:
        """The text that is certain now; empty while a character is incomplete."""
        self._ids.append(token_id)
        before = self._decode(self._ids[self._context : self._shown])
        after = self._decode(self._ids[self._context :])
        if len(after) <= len(before) or after.endswith(_REPLACEMENT):
            return ""
        self._context, self._shown = self._shown, len(self._ids)
        return after[len(before) :]

    def flush(self) -> str:
        """What was held back, without the remains of a character that never became whole."""
        before = self._decode(self._ids[self._context : self._shown])
        after = self._decode(self._ids[self._context :])
        self._context = self._shown = len(self._ids)
        return after[len(before) :].rstrip(_REPLACEMENT)


class TextStream:
    """Detokenizer that ends before the first stop text. `stopped` says whether one was reached; `before` as Detokenizer's."""

    def __init__(self, decode: Decode, stop: Sequence[str] = (), *, before: Sequence[int] = ()) -> None:
        self._detokenizer = Detokenizer(decode, before)
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False

    def push(self, token_id: int) -> str:
        """The text that can be shown after this token."""
        return self._advance(self._detokenizer.push(token_id))

    def flush(self) -> str:
        """The rest, once no more tokens come; empty after a stop text."""
        if self.stopped:
            return ""
        shown = self._advance(self._detokenizer.flush())
        rest, self._held = self._held, ""
        return shown if self.stopped else shown + rest

    def _advance(self, text: str) -> str:
        self._held += text
        found = [index for stop in self._stop if (index := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        keep = max((overlap(self._held, stop) for stop in self._stop), default=0)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`, and not all of it."""
    longest = min(len(text), len(stop) - 1)
    return next((length for length in range(longest, 0, -1) if stop.startswith(text[-length:])), 0)
