"""Examples made of numbers, for tests that need no renderer; shared by the tests of training."""

from array import array
from collections.abc import Iterable

from services.trainer.training.data import Example, Tokens


def tokens(ids: Iterable[int], targets: Iterable[int] = ()) -> Tokens:
    return Tokens(array("i", ids), array("i", targets))


def example(ids: Iterable[int], targets: Iterable[int] = (), label: str = "") -> Example:
    """One text."""
    return Example((tokens(ids, targets),), label)


def pair(prompt: Iterable[int], chosen: Iterable[int], rejected: Iterable[int]) -> Example:
    """A preference row: both answers carry loss, the prompt none."""
    start = list(prompt)
    texts = ([*start, *answer] for answer in (chosen, rejected))
    return Example(tuple(tokens(text, range(len(start), len(text))) for text in texts))
