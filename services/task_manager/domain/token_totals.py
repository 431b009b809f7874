"""How many tokens one pass over a task's data has, after cutting; used by PlanTask.

Exact while no row is longer than `max_seq_length`. Of longer rows only counts and a histogram are known, so their part is an
estimate: lengths lie in the middle of their bucket, and a cut answer keeps half of its tokens.
"""

import dataclasses
from collections.abc import Sequence

from services.task_manager.domain.inputs import TokenFacts


@dataclasses.dataclass(frozen=True, slots=True)
class TokenTotals:
    """Tokens of some rows."""

    tokens: int
    trainable: int


def totals(datasets: Sequence[TokenFacts], rows: Sequence[int], max_seq_length: int) -> TokenTotals:
    """Of one pass that sees `rows` rows of each dataset; a part of a dataset has its part of the tokens."""
    tokens = trainable = 0.0
    for facts, seen in zip(datasets, rows, strict=True):
        share = seen / facts.example_count if facts.example_count else 0.0
        tokens += share * kept_tokens(facts, max_seq_length)
        trainable += share * kept_trainable_tokens(facts)
    return TokenTotals(round(tokens), round(trainable))


def kept_tokens(facts: TokenFacts, max_seq_length: int) -> int:
    """Tokens of the whole dataset within `max_seq_length`."""
    kept = facts.token_count - round(_excess(facts, max_seq_length))
    return max(min(kept, facts.token_count - facts.over_length_count), facts.over_length_count * max_seq_length)


def kept_trainable_tokens(facts: TokenFacts) -> int:
    """Tokens of the whole dataset that carry loss and are not cut."""
    if not facts.example_count:
        return 0
    half_lost = max(0, facts.truncated_answer_count - facts.untrainable_count)
    lost_rows = min(facts.truncated_answer_count, facts.untrainable_count) + half_lost / 2
    return round(facts.trainable_token_count * (1 - lost_rows / facts.example_count))


def _excess(facts: TokenFacts, limit: int) -> float:
    """Tokens behind the limit."""
    if not facts.over_length_count:
        return 0.0
    excess, unplaced = 0.0, facts.over_length_count
    for up_to, count in reversed(facts.histogram):
        low, high = max(up_to // 2, limit), min(up_to, facts.longest)
        if high <= limit:
            break
        # Of the bucket that holds the limit, only the rows that are left over are longer than it.
        longer = min(count, unplaced)
        excess += longer * ((low + high) / 2 - limit)
        unplaced -= longer
    return excess
