"""Where a page of newest-first items ended; used by the servicers with page tokens and by the repositories as a keyset."""

import dataclasses
import datetime
import uuid

from services.common.errors import InvalidArgument, Violation
from services.common.paging import decode_token, encode_token


@dataclasses.dataclass(frozen=True, slots=True)
class Position:
    """The sort key of an item: newest first, equal times by id."""

    create_time: datetime.datetime
    id: uuid.UUID


def encode_position(position: Position, filter_text: str) -> str:
    """The token of the page after `position`."""
    return encode_token((position.create_time.isoformat(), str(position.id)), filter_text)


def decode_position(token: str, filter_text: str) -> Position | None:
    """The position in a token, None for the first page; raises InvalidArgument (INVALID_PAGE_TOKEN)."""
    parts = decode_token(token, filter_text)
    if parts is None:
        return None
    try:
        create_time, identifier = parts
        return Position(datetime.datetime.fromisoformat(create_time), uuid.UUID(identifier))
    except ValueError as error:
        violation = Violation("page_token", "is not a token of this list")
        raise InvalidArgument(violation, reason="INVALID_PAGE_TOKEN") from error
