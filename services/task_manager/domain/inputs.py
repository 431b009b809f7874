"""What storage knows of a task's datasets and base model; the storage port brings it, the rules about plans use it."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetFacts:
    """A dataset as storage describes it."""

    example_count: int
    format: str = ""
    """Name of a value of Dataset.Format, for example CHAT; empty = not known."""


@dataclasses.dataclass(frozen=True, slots=True)
class BaseModelFacts:
    """A base model as storage describes it."""

    context_length: int
    """Tokens; 0 = not known."""
    parameter_count: int = 0
    """0 = not known."""
    chat_template_problem: str = ""
    """Why it cannot learn conversations; empty = it can."""
    revision: str = ""
    """Which weights they are; empty = not known."""
    family: str = ""
    """For example llama; empty = not known."""


@dataclasses.dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that the chat template or the tokenizer refuses."""

    line: int
    path: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class TokenFacts:
    """A dataset in tokens of the task's base model, and what of it the task's `max_seq_length` cuts."""

    example_count: int
    token_count: int
    """Uncut."""
    trainable_token_count: int
    """Uncut."""
    longest: int
    """Tokens of the longest row, uncut."""
    over_length_count: int = 0
    """Rows that are cut."""
    truncated_answer_count: int = 0
    """Rows that lose tokens that carry loss."""
    untrainable_count: int = 0
    """Rows that keep no token that carries loss."""
    refused_count: int = 0
    refused: tuple[RefusedRow, ...] = ()
    """The first of them."""
    histogram: tuple[tuple[int, int], ...] = ()
    """(longest length of the bucket, rows in it), ascending; buckets are powers of two."""
    rows_in_validation: int = 0
    """Rows that the validation dataset has, too; counted only when it was asked for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Inputs:
    """Everything storage says about a task; datasets in the order of the ask."""

    datasets: tuple[DatasetFacts, ...]
    validation: DatasetFacts | None
    base_model: BaseModelFacts


@dataclasses.dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts in the order of the ask; None = not known, or not in time."""

    datasets: tuple[TokenFacts | None, ...]
    validation: TokenFacts | None = None

    @property
    def known(self) -> tuple[TokenFacts, ...]:
        """Of the training data, when every dataset is counted; else empty."""
        counted = tuple(facts for facts in self.datasets if facts is not None)
        return counted if len(counted) == len(self.datasets) else ()
