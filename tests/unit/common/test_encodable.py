"""Half characters, and all others."""

import pytest

from services.common.encodable import encodable


@pytest.mark.parametrize(
    ("text", "expected"),
    [("x\ud83d", "x\\ud83d"), ("\udc00\udc00", "\\udc00\\udc00"), ("größer 👍\x00\n", "größer 👍\x00\n"), ("", "")],
    ids=["first half", "second halves", "whole ones", "nothing"],
)
def test_halves_are_spelled_and_everything_else_stays(text: str, expected: str) -> None:
    assert encodable(text) == expected
    assert encodable(text).encode().decode() == expected
