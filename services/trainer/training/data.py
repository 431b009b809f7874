"""Rows of a dataset file to tokens and masks, once at the start of a run; all tokenising is the renderer's."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.common.errors import ServiceError
from services.common.rendering import Renderer, RenderError

_NAMED_ROWS = 10


@dataclass(frozen=True, slots=True)
class Example:
    """One row, ready to train."""

    token_ids: tuple[int, ...]
    targets: tuple[int, ...]
    """Positions of the tokens that carry loss, ascending, never 0: a token is predicted from those before it."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """All rows of one file, in the order of the file."""

    examples: tuple[Example, ...]

    @property
    def lengths(self) -> list[int]:
        """Tokens per example."""
        return [len(example.token_ids) for example in self.examples]

    @property
    def token_count(self) -> int:
        """Tokens of one pass."""
        return sum(self.lengths)

    @property
    def target_token_count(self) -> int:
        """Tokens of one pass that carry loss."""
        return sum(len(example.targets) for example in self.examples)

    @property
    def common_prefix(self) -> tuple[int, ...]:
        """Tokens that all examples begin with, as far as none of them predicts a target; typically the system message."""
        first, last = min(example.token_ids for example in self.examples), max(example.token_ids for example in self.examples)
        # What the smallest and the largest share, everything between them shares too.
        same = next((index for index, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
        return first[: min(same, *(example.targets[0] - 1 for example in self.examples))]

    def take(self, indices: Sequence[int]) -> list[Example]:
        """The examples at these positions."""
        return [self.examples[index] for index in indices]

    def count(self, indices: Sequence[int]) -> tuple[int, int]:
        """(tokens, target tokens) of the examples at these positions."""
        chosen = self.take(indices)
        return sum(len(example.token_ids) for example in chosen), sum(len(example.targets) for example in chosen)


def load_dataset(path: Path, renderer: Renderer, max_seq_length: int) -> Dataset:
    """Read JSON lines of OpenAI chat format. Raises ServiceError DATASET_UNUSABLE, EXAMPLE_TOO_LONG or NO_TRAINABLE_TOKENS."""
    numbered = list(_examples(path, renderer))
    if not numbered:
        raise ServiceError("DATASET_UNUSABLE", f"{path.name} has no rows")
    _refuse_long([(row, len(example.token_ids)) for row, example in numbered], max_seq_length)
    _refuse_silent([row for row, example in numbered if not example.targets])
    return Dataset(tuple(example for _, example in numbered))


def _examples(path: Path, renderer: Renderer) -> Iterator[tuple[int, Example]]:
    """Row numbers count from 1 and count blank lines too, as an editor does."""
    with path.open("rb") as lines:
        for row, line in enumerate(lines, start=1):
            if line.strip():
                yield row, _example(line, row, renderer)


def _example(line: bytes, row: int, renderer: Renderer) -> Example:
    try:
        rendered = renderer.render(_messages(line, row))
    except RenderError as error:
        raise ServiceError(error.reason, f"row {row}: {error.message}", metadata={"row": str(row)}) from error
    targets = tuple(index for index, trained in enumerate(rendered.loss_mask) if trained and index > 0)
    return Example(tuple(rendered.token_ids), targets)


def _messages(line: bytes, row: int) -> list[dict[str, Any]]:
    """Only what training cannot do without is checked here; the full check was made when the dataset was uploaded."""
    try:
        value = json.loads(line)
    except ValueError as error:  # UnicodeDecodeError is one of these
        raise _unusable(row, f"is not JSON: {error}") from error
    messages = value.get("messages") if isinstance(value, dict) else None
    if not isinstance(messages, list) or not messages:
        raise _unusable(row, 'has no "messages" list')
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise _unusable(row, f'messages[{index}] needs "role" and "content", both texts')
    return messages


def _unusable(row: int, why: str) -> ServiceError:
    return ServiceError("DATASET_UNUSABLE", f"row {row} {why}", metadata={"row": str(row)})


def _refuse_long(lengths: Sequence[tuple[int, int]], limit: int) -> None:
    too_long = [(row, length) for row, length in lengths if length > limit]
    if not too_long:
        return
    named = ", ".join(f"row {row} ({length} tokens)" for row, length in too_long[:_NAMED_ROWS])
    more = f" and {len(too_long) - _NAMED_ROWS} more" if len(too_long) > _NAMED_ROWS else ""
    longest = max(length for _, length in too_long)
    raise ServiceError(
        "EXAMPLE_TOO_LONG",
        f"{len(too_long)} of {len(lengths)} examples are longer than max_seq_length {limit}: {named}{more}; "
        f"the longest has {longest} tokens",
        metadata={"row": str(too_long[0][0]), "length": str(longest), "limit": str(limit), "count": str(len(too_long))},
    )


def _refuse_silent(rows: Sequence[int]) -> None:
    if rows:
        named = ", ".join(str(row) for row in rows[:_NAMED_ROWS])
        raise ServiceError(
            "NO_TRAINABLE_TOKENS",
            f"{len(rows)} rows have no assistant message to learn from, the first are: {named}",
            metadata={"row": str(rows[0]), "count": str(len(rows))},
        )
