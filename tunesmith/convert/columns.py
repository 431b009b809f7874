"""Rows whose columns the user names: input and output, with a system text, a label or a plain text."""

from dataclasses import dataclass
from typing import Any

from tunesmith.convert.records import Row, chat, optional_text, text_of

_PAIRS = (("question", "answer"), ("input", "output"), ("query", "response"), ("user", "assistant"), ("prompt", "response"))


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of columns; empty = none was named."""

    input: str = ""
    output: str = ""
    system: str = ""
    text: str = ""
    label: str = ""

    @property
    def named(self) -> bool:
        """The user named some."""
        return bool(self.input or self.output or self.text or self.label)

    def recognises(self, row: Row) -> bool:
        """The row has two columns that are known as question and answer."""
        return self._pair(row) is not None

    def to_chat(self, row: Row) -> dict[str, Any]:
        """The input is the user's, the output the assistant's."""
        asked, answered = self._pair(row) or (self.input, self.output)
        return chat(("system", self._system(row)), ("user", text_of(row, asked)), ("assistant", text_of(row, answered)))

    def to_labeled(self, row: Row) -> dict[str, Any]:
        """The input, or the text, and its class."""
        asked = text_of(row, self.input or self.text)
        return {**chat(("system", self._system(row)), ("user", asked)), "label": text_of(row, self.label)}

    def to_text(self, row: Row) -> dict[str, Any]:
        """The text, or input and output one after the other."""
        return {"text": text_of(row, self.text) if self.text else text_of(row, self.input) + text_of(row, self.output)}

    def _system(self, row: Row) -> str:
        return optional_text(row, self.system) if self.system else ""

    def _pair(self, row: Row) -> tuple[str, str] | None:
        if self.input and self.output:
            return self.input, self.output
        return next((pair for pair in _PAIRS if set(pair) <= row.keys()), None)
