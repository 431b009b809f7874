"""Refuses data and base models that cannot make the task work, before it is queued; used when a task is created or planned."""

from collections.abc import Iterator

from services.common.errors import Violation
from services.task_manager.domain.fine_tuning import FINE_TUNING, FineTuning
from services.task_manager.domain.formats import FORMATS, learns_tokens, needs_chat_template
from services.task_manager.domain.hyperparameters import PATH
from services.task_manager.domain.inputs import DatasetFacts, Inputs, TokenFacts, Tokens
from services.task_manager.domain.model_shape import ModelShape
from services.task_manager.domain.training_data import RowCounts

_NAMED_ROWS = 5


def unfit_inputs(ask: FineTuning, inputs: Inputs, rows: RowCounts) -> Iterator[Violation]:
    """Formats, the chat template, and whether rows are left to learn from."""
    for field, dataset in _by_field(ask, inputs):
        wanted = FORMATS[ask.method]
        if dataset.format and dataset.format != wanted:
            yield Violation(field, f"holds rows of format {dataset.format}; method {ask.method} learns from {wanted}")
    problem = inputs.base_model.chat_template_problem
    if problem and needs_chat_template(ask.method):
        yield Violation(f"{FINE_TUNING}.base_model", f"cannot learn conversations: {problem}")
    total = sum(dataset.example_count for dataset in inputs.datasets)
    if ask.validation_split_ratio is not None and total == 1:
        yield Violation(f"{FINE_TUNING}.validation_split_ratio", "needs at least 2 rows; there is 1")
    if total and not rows.training:
        yield Violation(f"{FINE_TUNING}.mixture", f"leaves none of the {total} rows: the weights are too small")


def unfit_layers(last_layers: int, shape: ModelShape | None) -> Iterator[Violation]:
    """More layers to tune than the model has; of a shape that is not known nothing is said."""
    if shape is not None and last_layers > shape.layers:
        yield Violation(f"{PATH}.lora.last_layers", f"{last_layers} is too large; the base model has {shape.layers} layers")


def unfit_tokens(ask: FineTuning, tokens: Tokens) -> Iterator[Violation]:
    """Rows that the chat template refuses, and data without a token to learn from; what is not counted is not judged."""
    for index, facts in enumerate(tokens.datasets):
        if facts is not None:
            yield from _unfit(ask.source_field(index), facts, ask.method)
    if tokens.validation is not None:
        yield from _unfit(f"{FINE_TUNING}.validation_dataset", tokens.validation, ask.method)


def _by_field(ask: FineTuning, inputs: Inputs) -> Iterator[tuple[str, DatasetFacts]]:
    for index, dataset in enumerate(inputs.datasets):
        yield ask.source_field(index), dataset
    if inputs.validation is not None:
        yield f"{FINE_TUNING}.validation_dataset", inputs.validation


def _unfit(field: str, facts: TokenFacts, method: str) -> Iterator[Violation]:
    if facts.refused_count:
        first = facts.refused[:_NAMED_ROWS]
        named = "; ".join(": ".join(part for part in (f"line {row.line}", row.path, row.message) if part) for row in first)
        more = f"; and {facts.refused_count - len(first)} more" if facts.refused_count > len(first) else ""
        yield Violation(field, f"{facts.refused_count} rows cannot be rendered for the base model: {named}{more}")
    elif not learns_tokens(method):
        return
    elif facts.example_count and not facts.trainable_token_count:
        yield Violation(field, f"none of its {facts.example_count} rows has a token to learn from")
    elif facts.example_count and facts.untrainable_count >= facts.example_count:
        text = f"none of its {facts.example_count} rows has a token to learn from within max_seq_length; the longest has"
        yield Violation(field, f"{text} {facts.longest} tokens")
