"""Where in a text each message begins, for templates that go through the messages once and never look ahead; used by `template`.

Such a template renders the first messages of a conversation exactly as it renders them within the whole, so one rendering tells
what it would make of every beginning. Whether a template is like that is not guessed: while it renders, the messages are hidden
behind an object that allows one loop over them and `messages[0]`. Any other use (their number, the last one, a second loop), a
look at `loop.last` and its like, or a `namespace` (which carries what a loop saw out of it) ends the trace.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn

LOOKING_AHEAD = frozenset(("last", "length", "nextitem", "revindex", "revindex0"))
"""Attributes of `loop` that tell what is still to come."""


class LooksAhead(Exception):
    """The template uses the messages in another way than one after the other."""


@dataclass(frozen=True, slots=True)
class Traced:
    """A text, and where each message begins in it; the last place is where the loop over the messages ended."""

    text: str
    begins: list[int]


class Talk:
    """Stands for the messages while one template renders them. `written` is the length of the text so far."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self._messages = messages
        self._begins: list[int] = []
        self.written = 0
        self.is_straight = True

    def traced(self, text: str) -> Traced:
        """Raises LooksAhead unless every message was taken once, and text was written for each."""
        begins = self._begins
        grows = all(left < right for left, right in pairwise(begins))
        if not self.is_straight or len(begins) != len(self._messages) + 1 or not grows:
            raise LooksAhead
        return Traced(text, begins)

    def look_ahead(self, *_: object) -> NoReturn:
        """What any other use of the messages does. Jinja's tests swallow exceptions, hence the note."""
        self.is_straight = False
        raise LooksAhead

    def each(self) -> Iterator[dict[str, Any]]:
        """The one loop."""
        if self._begins:
            self.look_ahead()
        for message in self._messages:
            self._begins.append(self.written)
            yield message
        self._begins.append(self.written)

    def __getitem__(self, key: object) -> dict[str, Any]:
        return self._messages[0] if key == 0 and isinstance(key, int) else self.look_ahead()

    def __bool__(self) -> bool:
        return True

    __len__ = __iter__ = __contains__ = __reversed__ = __str__ = __repr__ = look_ahead
    __add__ = __radd__ = __mul__ = __rmul__ = __mod__ = __lt__ = __gt__ = __le__ = __ge__ = __eq__ = __ne__ = look_ahead
    __hash__ = None  # type: ignore[assignment]
