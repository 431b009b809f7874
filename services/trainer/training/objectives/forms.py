"""What a row must be for each method; free of torch, so that data proves usable before anything heavy is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Form:
    """A kind of rows, as Dataset.Format has them."""

    name: str
    keys: tuple[str, ...]
    """Every row has these."""
    text_count: int = 1
    """Token sequences of a row."""
    labeled: bool = False
    """What is learned is the row's label, not a text."""
    answers: bool = True
    """What is learned is what an assistant says: the base model's chat template must be fit for that."""

    def refusal(self, row: Any) -> str:
        """Why a decoded row cannot be trained on; empty when it can, as far as can be told before rendering."""
        if not isinstance(row, Mapping):
            return "is not a JSON object"
        missing = [key for key in self.keys if key not in row]
        if missing:
            return f'is no {self.name} row: it has no "{missing[0]}"'
        if self.labeled and not _is_label(row["label"]):
            return 'has a "label" that is neither a text nor an integer'
        return ""


def _is_label(value: Any) -> bool:
    """As the dataset check has it."""
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


_PREFERENCE = Form("preference", ("input", "preferred_output", "non_preferred_output"), text_count=2)

FORMS: Mapping[str, Form] = {
    "sft": Form("chat", ("messages",)),
    "dpo": _PREFERENCE,
    "kto": _PREFERENCE,
    "orpo": _PREFERENCE,
    "cpt": Form("text", ("text",), answers=False),
    "classification": Form("labeled", ("messages", "label"), labeled=True, answers=False),
}
"""By the name a configuration calls the method."""
