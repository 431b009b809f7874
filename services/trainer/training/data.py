"""Rows of a dataset file to tokens and masks, once at the start of a run; all tokenising is the renderer's."""

import hashlib
import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.common.errors import ServiceError
from services.common.rendering import Rendered, Renderer, digest, render_row
from services.trainer.training.objectives.forms import Form
from services.trainer.training.row_numbers import row_numbers

if TYPE_CHECKING:
    Integers = array[int]
else:
    Integers = array  # has no type parameters at run time before Python 3.12

_NAMED_ROWS = 10


@dataclass(frozen=True, slots=True)
class Tokens:
    """One sequence, ready to train; 4 bytes a token."""

    ids: Integers
    targets: Integers
    """Positions of the tokens that carry loss, ascending, never 0: a token is predicted from those before it."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row."""

    texts: tuple[Tokens, ...]
    """One sequence; of a preference row two, the preferred first. An objective may add more."""
    label: str = ""
    """Its class, when that is what is learned."""
    reference: tuple[float, ...] = ()
    """Log-probability of each text under the model as it was before training; empty when it is computed beside each step."""
    row: int = 0
    """Its number in the dataset, from 1; of a mixture, in the composed file; 0 = not of a file."""

    @property
    def token_count(self) -> int:
        """Of all texts."""
        return sum(len(text.ids) for text in self.texts)

    @property
    def target_count(self) -> int:
        """What carries loss: tokens, or the one label."""
        return 1 if self.label else sum(len(text.targets) for text in self.texts)


@dataclass(frozen=True, slots=True)
class Cuts:
    """Rows longer than `max_seq_length`, and rows that train nothing."""

    cut_count: int = 0
    """Rows that lost their end."""
    left_out: Integers = field(default_factory=lambda: array("q"))
    """Numbers of the rows in which nothing that carries loss was left; they are no examples."""

    def describe(self, max_seq_length: int) -> str:
        """One line for the log."""
        named = ", ".join(map(str, self.left_out[:_NAMED_ROWS])) + (", …" if len(self.left_out) > _NAMED_ROWS else "")
        left_out = f"; {len(self.left_out)} rows with nothing left to learn were left out: {named}" if self.left_out else ""
        return f"{self.cut_count} rows were cut to max_seq_length {max_seq_length}{left_out}"


@dataclass(frozen=True, slots=True)
class Dataset:
    """All rows of one file that train, in the order of the file."""

    examples: tuple[Example, ...]
    cuts: Cuts = Cuts()
    rendered_rows_sha256: str = ""
    """Over the binary digests of every row of the file as rendered, uncut; what a preview of each row must agree with."""

    @property
    def lengths(self) -> list[int]:
        """Tokens per example."""
        return [example.token_count for example in self.examples]

    @property
    def token_count(self) -> int:
        """Tokens of one pass."""
        return sum(self.lengths)

    @property
    def target_token_count(self) -> int:
        """What carries loss in one pass."""
        return sum(example.target_count for example in self.examples)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every class, sorted; empty when the rows have none."""
        return tuple(sorted({example.label for example in self.examples if example.label}))

    @property
    def common_prefix(self) -> Integers:
        """Tokens that all texts begin with, as far as none of them predicts a target; typically the system message."""
        texts = [text for example in self.examples for text in example.texts]
        first, last = min(text.ids for text in texts), max(text.ids for text in texts)
        # What the smallest and the largest share, everything between them shares too.
        same = next((index for index, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
        return first[: min(same, *(_before_targets(text) for text in texts))]

    def take(self, indices: Sequence[int]) -> list[Example]:
        """The examples at these positions."""
        return [self.examples[index] for index in indices]

    def count(self, indices: Sequence[int]) -> tuple[int, int]:
        """(tokens, target tokens) of the examples at these positions."""
        chosen = self.take(indices)
        return sum(example.token_count for example in chosen), sum(example.target_count for example in chosen)


def load_dataset(path: Path, renderer: Renderer, max_seq_length: int, form: Form) -> Dataset:
    """Read JSON lines. Texts longer than `max_seq_length` lose their end; rows that then train nothing are left out.

    Raises ServiceError DATASET_UNUSABLE, or NO_TRAINABLE_TOKENS when no row is left.
    """
    examples, cuts, rows, total = [], 0, hashlib.sha256(), 0
    left_out = array("q")
    for number, row in _rows(path, form):
        renderings = _rendered(row, number, renderer, form)
        rows.update(bytes.fromhex(digest(renderings)))
        label = str(row["label"]) if form.labeled else ""
        example = Example(tuple(_cut(rendered, max_seq_length) for rendered in renderings), label, row=number)
        total += 1
        cuts += any(len(rendered.token_ids) > max_seq_length for rendered in renderings)
        if _trains(example):
            examples.append(example)
        else:
            left_out.append(number)
    if not total:
        raise ServiceError("DATASET_UNUSABLE", f"{path.name} has no rows")
    if not examples:
        raise _nothing_left(total, cuts, max_seq_length)
    return Dataset(tuple(examples), Cuts(cuts, left_out), rows.hexdigest())


def _rows(path: Path, form: Form) -> Iterator[tuple[int, dict[str, Any]]]:
    """Row numbers count from 1 and count blank lines too, as an editor does; of composed data they are those of the dataset."""
    with path.open("rb") as lines, row_numbers(path) as numbers:
        for number, line in zip(numbers, lines, strict=False):
            if line.strip():
                yield number, _decoded(line, number, form)


def _decoded(line: bytes, number: int, form: Form) -> dict[str, Any]:
    """Only what training cannot do without is checked here; the full check was made when the dataset was uploaded."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is one of the former
        raise _unusable(number, f"is not JSON: {error}") from error
    if refusal := form.refusal(row):
        raise _unusable(number, refusal)
    return dict(row)


def _rendered(row: dict[str, Any], number: int, renderer: Renderer, form: Form) -> tuple[Rendered, ...]:
    try:
        renderings = render_row(renderer, row)
    except (KeyError, TypeError, AttributeError) as error:
        raise _unusable(number, f"is not as a dataset's rows are: {type(error).__name__}: {error}") from error
    except ServiceError as error:
        raise ServiceError(error.reason, f"row {number}: {error.message}", metadata={"row": str(number)}) from error
    if len(renderings) != form.text_count:
        raise _unusable(number, f"is no {form.name} row: it renders as {len(renderings)} texts, not {form.text_count}")
    return renderings


def _cut(rendered: Rendered, limit: int) -> Tokens:
    """The beginning of a text, at most `limit` tokens."""
    targets = (index for index, trained in enumerate(rendered.loss_mask[:limit]) if trained and index > 0)
    return Tokens(array("i", rendered.token_ids[:limit]), array("i", targets))


def _trains(example: Example) -> bool:
    """Whether there is something to learn: of a preference row, on both sides."""
    return all(text.ids if example.label else text.targets for text in example.texts)


def _before_targets(text: Tokens) -> int:
    """Tokens that predict no target; one is always left to run through the model."""
    return (text.targets[0] if text.targets else len(text.ids)) - 1


def _unusable(number: int, why: str) -> ServiceError:
    return ServiceError("DATASET_UNUSABLE", f"row {number} {why}", metadata={"row": str(number)})


def _nothing_left(total: int, cuts: int, limit: int) -> ServiceError:
    why = f"{cuts} of them were cut to max_seq_length {limit} first" if cuts else "none has anything to learn from"
    message = f"none of the {total} rows has a token that carries loss; {why}"
    hint = "Raise max_seq_length, or shorten what comes before the answers." if cuts else ""
    return ServiceError("NO_TRAINABLE_TOKENS", message, hint=hint, metadata={"count": str(total), "cut": str(cuts)})
