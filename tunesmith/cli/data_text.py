"""Datasets as text for people: statistics, warnings, tokens, overlap; used by every command that shows one."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tunesmith.cli.output import bars, percent, print_fields, size, visible, when
from tunesmith.names import bare_id

if TYPE_CHECKING:
    from tunesmith.v1.dataset_pb2 import Dataset, DatasetStatistics, DatasetWarning, TokenStatistics
    from tunesmith.v1.dataset_service_pb2 import DatasetAnalysis, DatasetOverlap

_LABELS_SHOWN = 10
_MOST_TURNS = 10  # stands for itself and more


def format_name(number: int) -> str:
    """`chat`; a number this client does not know stays a number."""
    from tunesmith.v1.dataset_pb2 import Dataset

    if not number:
        return ""
    return Dataset.Format.Name(number).lower() if number in Dataset.Format.values() else str(number)  # type: ignore[arg-type]


def counted(count: int, noun: str) -> str:
    """`1 example`, `2,000 examples`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def summary(statistics: "DatasetStatistics") -> str:
    """`640 examples, 1,280 messages, 3 duplicates`."""
    parts = [counted(statistics.example_count, "example"), counted(statistics.message_count, "message")]
    if statistics.duplicate_count:
        parts.append(f"{statistics.duplicate_count:,} duplicates")
    if statistics.without_system_count:
        parts.append(f"{statistics.without_system_count:,} without a system message")
    return ", ".join(parts)


def print_dataset(dataset: "Dataset") -> None:
    """Every field that is set, then the warnings."""
    print_fields(
        [
            ("name", dataset.name),
            ("called", visible(dataset.display_name)),
            ("version", str(dataset.version or "")),
            ("format", format_name(dataset.format)),
            *statistics_fields(dataset.statistics),
            ("left out", _dropped(dataset)),
            ("size", size(dataset.size_bytes)),
            ("sha256", dataset.sha256),
            ("created", when(dataset.create_time)),
        ]
    )
    print_warnings(dataset.warnings)


def statistics_fields(statistics: "DatasetStatistics") -> list[tuple[str, str]]:
    """What was counted, as fields; those that say nothing are empty."""
    roles = sorted(statistics.messages_by_role.items())
    turns = sorted(statistics.examples_by_turns.items())
    labels = [(visible(label.label), label.example_count) for label in statistics.labels[:_LABELS_SHOWN]]
    more = statistics.label_count - len(labels)
    return [
        ("contains", summary(statistics)),
        ("messages", ", ".join(f"{count:,} {visible(role)}" for role, count in roles)),
        ("turns", ", ".join(f"{number}{'+' if number == _MOST_TURNS else ''}: {count:,}" for number, count in turns)),
        ("labels", bars(labels, statistics.example_count) + (f"\n… and {more:,} more" if more > 0 else "") if labels else ""),
        ("oddities", _oddities(statistics)),
    ]


def _oddities(statistics: "DatasetStatistics") -> str:
    counts = {
        "near duplicates": statistics.near_duplicate_count,
        "rows that do not end with the assistant": statistics.last_not_assistant_count,
        "empty messages": statistics.empty_content_count,
        "rows with tools": statistics.with_tools_count,
    }
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)


def _dropped(dataset: "Dataset") -> str:
    if not dataset.dropped_row_count:
        return ""
    by_reason = ", ".join(f"{reason}: {count:,}" for reason, count in sorted(dataset.dropped_rows_by_reason.items()))
    return f"{dataset.dropped_row_count:,} bad rows ({by_reason})"


def print_warnings(warnings: "Iterable[DatasetWarning]") -> None:
    """`warning[CODE]: message (lines 3, 7)` with its hint."""
    for warning in warnings:
        word = "line" if len(warning.lines) == 1 else "lines"
        lines = f" ({word} {', '.join(map(str, warning.lines))})" if warning.lines else ""
        print(f"warning[{warning.reason}]: {visible(warning.message)}{lines}")
        if warning.hint:
            print(f"  hint: {visible(warning.hint)}")


def print_analysis(analysis: "DatasetAnalysis") -> None:
    """What was counted."""
    if analysis.HasField("tokens"):
        print_tokens(analysis.tokens)
    if analysis.HasField("overlap"):
        _print_overlap(analysis.overlap)


def print_tokens(tokens: "TokenStatistics") -> None:
    """Tokens, their lengths, and what a cut costs."""
    lengths = tokens.lengths
    percentiles = ", ".join(f"p{share} {length:,}" for share, length in sorted(lengths.percentiles.items()))
    buckets = [(f"≤ {bucket.up_to:,}", bucket.count) for bucket in lengths.histogram]
    cut = f"{tokens.over_length_count:,} of {tokens.example_count:,} longer than {tokens.max_seq_length:,}"
    print_fields(
        [
            ("model", f"{bare_id(tokens.base_model)} {tokens.base_model_revision[:12]}".strip()),
            ("tokens", f"{tokens.token_count:,}"),
            ("trainable", f"{tokens.trainable_token_count:,} ({percent(tokens.trainable_token_count, tokens.token_count)})"),
            ("lengths", f"{lengths.min:,} to {lengths.max:,}, mean {lengths.mean:,.0f}; {percentiles}"),
            ("", bars(buckets, tokens.example_count)),
            ("cut", f"{cut}; {tokens.truncated_answer_count:,} answers lose tokens"),
            ("untrainable", f"{tokens.untrainable_count:,} rows without a token to learn" if tokens.untrainable_count else ""),
            ("refused", f"{tokens.violation_count:,} rows by the chat template" if tokens.violation_count else ""),
        ]
    )


def _print_overlap(overlap: "DatasetOverlap") -> None:
    rows = f" (rows {', '.join(map(str, overlap.rows))})" if overlap.rows else ""
    shared = f"{overlap.same_input_count:,} rows have the same input, {overlap.same_row_count:,} are equal{rows}"
    print_fields([("against", overlap.against), ("shared", shared)])
