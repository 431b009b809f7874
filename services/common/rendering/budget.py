"""What one rendering may cost: steps, characters, seconds; used by the sandbox that templates run in.

A template comes from whoever published the model. Nothing in Jinja keeps one from counting to 10^12 or from doubling a text forty
times, and a Python thread cannot be stopped from outside, so every operation that can be repeated or that can grow pays here.
"""

import time
from collections.abc import Iterable
from typing import Any

MAX_STEPS = 1_000_000
"""Loop iterations and calls."""
MAX_SECONDS = 10.0
"""Wall time; real templates need microseconds a message."""
FREE_CHARACTERS = 4_000_000
"""Characters that any rendering may make, intermediate texts included."""
CHARACTERS_PER_INPUT = 64
"""More characters for each character of the messages: a template copies a content a few times while it puts the text together."""
MAX_NESTING = 64
"""Levels of lists and objects in a value that is written."""


class TemplateLimit(Exception):
    """The template does more than any honest one."""


class Budget:
    """What is left of one rendering. Not shared between threads."""

    __slots__ = ("_characters", "_deadline", "_steps")

    def __init__(self, input_characters: int, *, seconds: float = MAX_SECONDS) -> None:
        self._steps = MAX_STEPS
        self._characters = FREE_CHARACTERS + CHARACTERS_PER_INPUT * input_characters
        self._deadline = time.monotonic() + seconds

    def step(self) -> None:
        """Pay for one iteration or call."""
        self._steps -= 1
        if self._steps < 0:
            raise TemplateLimit(f"it takes more than {MAX_STEPS:,} steps")
        if time.monotonic() > self._deadline:
            raise TemplateLimit(f"it takes longer than {MAX_SECONDS:g} seconds")

    def characters(self, count: int) -> None:
        """Pay for characters, or for elements of a list, best before they are made."""
        self._characters -= count
        if self._characters < 0:
            raise TemplateLimit("it makes far more text than the messages hold")

    def text_of(self, value: Any, level: int = 0) -> None:
        """Pay for what `value` will be as text. Elements that are the same object are paid for each time, as they are written."""
        if isinstance(value, str):
            self.characters(len(value))
        elif isinstance(value, dict | list | tuple):
            self._elements(value, level)
        else:
            self.characters(20)

    def _elements(self, value: dict[Any, Any] | list[Any] | tuple[Any, ...], level: int) -> None:
        if level > MAX_NESTING:
            raise TemplateLimit(f"it nests values deeper than {MAX_NESTING} levels")
        parts: Iterable[Any] = (part for pair in value.items() for part in pair) if isinstance(value, dict) else value
        for part in parts:
            self.step()
            self.text_of(part, level + 1)
