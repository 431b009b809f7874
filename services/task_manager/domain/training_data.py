"""Which rows a task learns from: one dataset or a weighted mixture, and what of it is held out; used by validation and plans.

The trainer composes the rows by the same arithmetic (services/trainer/composition.py).
"""

import dataclasses
from collections.abc import Iterator, Sequence

from services.common.errors import InvalidArgument, Violation
from services.common.names import resource_uuid

MIN_MIXTURE = 2
MAX_MIXTURE = 32
MAX_WEIGHT = 100.0
MAX_SPLIT_RATIO = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class WeightedDataset:
    """A dataset and how often one pass sees each of its rows."""

    dataset: str
    weight: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class RowCounts:
    """How many rows a task uses. With several datasets and a split, or with equal rows, the trainer's counts differ by a few."""

    datasets: tuple[int, ...]
    """Rows that one pass sees of each dataset."""
    validation: int
    """Rows held out by a split ratio."""

    @property
    def training(self) -> int:
        """Rows of one pass."""
        return sum(self.datasets)


def count_rows(row_counts: Sequence[int], weights: Sequence[float], split_ratio: float | None) -> RowCounts:
    """The rows of one pass over datasets of `row_counts` rows."""
    total = sum(row_counts)
    held_out = _held_out(total, split_ratio)
    kept = [count - round(held_out * count / total) if total else 0 for count in row_counts]
    return RowCounts(tuple(round(count * weight) for count, weight in zip(kept, weights, strict=True)), held_out)


def violations(
    dataset: str, mixture: Sequence[WeightedDataset], validation_dataset: str, split_ratio: float | None, path: str
) -> Iterator[Violation]:
    """Everything wrong with the choice of data, without asking anybody."""
    if mixture:
        yield from _mixture(dataset, mixture, path)
    else:
        yield from _named(dataset, f"{path}.dataset")
    if validation_dataset:
        yield from _named(validation_dataset, f"{path}.validation_dataset")
    if split_ratio is not None:
        yield from _split(split_ratio, validation_dataset, f"{path}.validation_split_ratio")


def full_name(dataset: str) -> str:
    """The resource name of a checked name or bare id; empty stays empty."""
    return dataset and f"datasets/{resource_uuid(dataset, 'datasets')}"


def _held_out(total: int, split_ratio: float | None) -> int:
    # At least one row is held out and at least one is left; with fewer than two rows there is nothing to split.
    if split_ratio is None or total < 2:
        return 0
    return min(max(1, round(total * split_ratio)), total - 1)


def _mixture(dataset: str, mixture: Sequence[WeightedDataset], path: str) -> Iterator[Violation]:
    if dataset:
        yield Violation(f"{path}.mixture", "takes the place of dataset; set only one of them")
    if not MIN_MIXTURE <= len(mixture) <= MAX_MIXTURE:
        yield Violation(f"{path}.mixture", f"has {len(mixture)} entries; {MIN_MIXTURE} to {MAX_MIXTURE} are permitted")
    first_at: dict[str, int] = {}
    for index, entry in enumerate(mixture):
        place = f"{path}.mixture[{index}]"
        bad_name = list(_named(entry.dataset, f"{place}.dataset"))
        yield from bad_name
        # Written so that NaN, which compares with nothing, is refused.
        if not 0 < entry.weight <= MAX_WEIGHT:
            yield Violation(f"{place}.weight", f"{entry.weight:g} must be more than 0 and at most {MAX_WEIGHT:g}")
        if not bad_name and (earlier := first_at.setdefault(full_name(entry.dataset), index)) != index:
            yield Violation(f"{place}.dataset", f"is the same dataset as mixture[{earlier}]; use its weight instead")


def _split(ratio: float, validation_dataset: str, path: str) -> Iterator[Violation]:
    if not 0 < ratio <= MAX_SPLIT_RATIO:
        yield Violation(path, f"{ratio:g} must be more than 0 and at most {MAX_SPLIT_RATIO:g}")
    if validation_dataset:
        yield Violation(path, "takes the place of validation_dataset; set only one of them")


def _named(dataset: str, field: str) -> Iterator[Violation]:
    try:
        resource_uuid(dataset, "datasets", field)
    except InvalidArgument as error:
        yield from error.violations
