"""Tokens of many rows as one base model sees them, in memory that does not grow with the rows; used by the command `analyze`."""

import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from services.common.errors import ServiceError
from services.storage.tokens.row_lines import Row

if TYPE_CHECKING:
    from services.common.rendering import Rendered, Renderer

NAMED_ROWS = 100
PERCENTILES = (5, 25, 50, 75, 90, 95, 99)


@dataclasses.dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that cannot be rendered."""

    number: int
    reason: str
    message: str
    hint: str


@dataclasses.dataclass(slots=True)
class Lengths:
    """How many rows have which length. Exact: there are never more different lengths than tokens in the longest row."""

    rows: Counter[int] = dataclasses.field(default_factory=Counter)

    @property
    def mean(self) -> float:
        """0 without rows."""
        return sum(length * count for length, count in self.rows.items()) / (self.rows.total() or 1)

    def percentiles(self) -> dict[int, int]:
        """By nearest rank: the shortest length that at least p percent of the rows do not exceed."""
        total, reached, found = self.rows.total(), 0, {}
        pending = list(PERCENTILES)
        for length in sorted(self.rows):
            reached += self.rows[length]
            while pending and 100 * reached >= pending[0] * total:
                found[pending.pop(0)] = length
        return found

    def histogram(self) -> dict[int, int]:
        """Rows by the power of two that their length does not exceed, shortest first."""
        buckets: Counter[int] = Counter()
        for length, count in self.rows.items():
            buckets[1 << max(length - 1, 0).bit_length()] += count
        return dict(sorted(buckets.items()))


@dataclasses.dataclass(slots=True)
class TokenCounts:
    """See TokenStatistics in the contract; the names are the same."""

    example_count: int = 0
    token_count: int = 0
    trainable_token_count: int = 0
    lengths: Lengths = dataclasses.field(default_factory=Lengths)
    over_length_count: int = 0
    truncated_answer_count: int = 0
    untrainable_count: int = 0
    violations: list[RefusedRow] = dataclasses.field(default_factory=list)
    violation_count: int = 0


def count_tokens(renderer: "Renderer", rows: Iterable[tuple[int, Row]], max_seq_length: int) -> TokenCounts:
    """Rows that cannot be rendered are counted, and the first of them named."""
    # Imported here for overlaps, which need no tokenizer.
    from services.common.rendering import RenderError
    from services.storage.tokens.row_rendering import rendered

    counts = TokenCounts()
    for number, row in rows:
        try:
            renderings = rendered(renderer, row, number)
        except RenderError as error:
            _refuse(counts, number, error)
        else:
            _count(counts, renderings, max_seq_length, labeled="label" in row and "messages" in row)
    return counts


def _refuse(counts: TokenCounts, number: int, error: ServiceError) -> None:
    counts.violation_count += 1
    if len(counts.violations) < NAMED_ROWS:
        counts.violations.append(RefusedRow(number, error.reason, error.message, error.hint))


def _count(counts: TokenCounts, renderings: "tuple[Rendered, ...]", max_seq_length: int, *, labeled: bool) -> None:
    longest = max(len(one.token_ids) for one in renderings)
    kept = sum(sum(one.loss_mask[:max_seq_length]) for one in renderings)
    trained = sum(sum(one.loss_mask) for one in renderings)
    counts.example_count += 1
    counts.token_count += sum(len(one.token_ids) for one in renderings)
    counts.trainable_token_count += trained
    counts.lengths.rows[longest] += 1
    counts.over_length_count += longest > max_seq_length
    counts.truncated_answer_count += kept < trained
    # Of a labeled row the label is learned, which is no token.
    counts.untrainable_count += kept == 0 and not labeled
