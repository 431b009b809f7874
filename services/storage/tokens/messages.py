"""What the worker found, as messages of the contract and as lines of JSON; used by `__main__`."""

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from services.storage.tokens.overlaps import Overlap
from services.storage.tokens.token_counts import Lengths, RefusedRow, TokenCounts
from tunesmith.v1 import dataset_pb2, dataset_service_pb2


def as_line(message: Message) -> str:
    """Proto JSON with the contract's own field names, without a line end."""
    return MessageToJson(message, preserving_proto_field_name=True, indent=None)


def statistics(counts: TokenCounts, max_seq_length: int) -> dataset_pb2.TokenStatistics:
    """Without the base model's names, which the worker does not know."""
    return dataset_pb2.TokenStatistics(
        max_seq_length=max_seq_length,
        example_count=counts.example_count,
        token_count=counts.token_count,
        trainable_token_count=counts.trainable_token_count,
        lengths=_lengths(counts.lengths),
        over_length_count=counts.over_length_count,
        truncated_answer_count=counts.truncated_answer_count,
        untrainable_count=counts.untrainable_count,
        violations=map(_violation, counts.violations),
        violation_count=counts.violation_count,
    )


def overlap(found: Overlap) -> dataset_service_pb2.DatasetOverlap:
    """Without the other dataset's name, which the worker does not know."""
    return dataset_service_pb2.DatasetOverlap(
        same_input_count=found.same_input_count, same_row_count=found.same_row_count, rows=found.rows
    )


def _lengths(lengths: Lengths) -> dataset_pb2.LengthDistribution:
    return dataset_pb2.LengthDistribution(
        min=min(lengths.rows, default=0),
        max=max(lengths.rows, default=0),
        mean=lengths.mean,
        percentiles=lengths.percentiles(),
        histogram=[dataset_pb2.LengthBucket(up_to=up_to, count=count) for up_to, count in lengths.histogram().items()],
    )


def _violation(row: RefusedRow) -> dataset_pb2.RowViolation:
    return dataset_pb2.RowViolation(line=row.number, reason=row.reason, message=row.message, hint=row.hint)
