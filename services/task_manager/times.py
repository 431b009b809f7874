"""Python's times to the messages of google.protobuf; used at the edges."""

import datetime
from typing import overload

from google.protobuf import duration_pb2, timestamp_pb2


@overload
def to_timestamp(time: datetime.datetime) -> timestamp_pb2.Timestamp: ...
@overload
def to_timestamp(time: None) -> None: ...
def to_timestamp(time: datetime.datetime | None) -> timestamp_pb2.Timestamp | None:
    """The message; None stays absent."""
    if time is None:
        return None
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(time)
    return message


@overload
def to_duration(span: datetime.timedelta) -> duration_pb2.Duration: ...
@overload
def to_duration(span: None) -> None: ...
def to_duration(span: datetime.timedelta | None) -> duration_pb2.Duration | None:
    """The message; None stays absent."""
    if span is None:
        return None
    message = duration_pb2.Duration()
    message.FromTimedelta(span)
    return message
