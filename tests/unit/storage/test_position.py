"""Page tokens come back as the position they were made from; anything else is refused."""

import datetime
import uuid

import pytest

from services.common.errors import InvalidArgument
from services.common.paging import encode_token
from services.storage.position import Position, decode_position, encode_position

HERE = Position(datetime.datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=datetime.UTC), uuid.UUID(int=5))


def test_a_position_survives_the_token() -> None:
    assert decode_position(encode_position(HERE, "all"), "all") == HERE


def test_no_token_is_the_first_page() -> None:
    assert decode_position("", "all") is None


@pytest.mark.parametrize("parts", [[], ["x"], ["yesterday", str(uuid.UUID(int=1))], ["2026-01-01", "x"], ["a", "b", "c"]])
def test_a_token_of_another_shape_is_refused(parts: list[str]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode_position(encode_token(parts, "all"), "all")
    assert caught.value.reason == "INVALID_PAGE_TOKEN"
