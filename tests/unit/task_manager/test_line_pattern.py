"""Patterns match what Python's regular expressions match, and what Python would never finish ends at once."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.task_manager.domain.line_pattern import MAX_LENGTH, LinePattern, PatternError

PATTERNS = [
    "abc",
    "^abc$",
    "a|b|",
    "(a|bc)+d",
    "x{2,}y",
    "^x{1,3}$",
    "[^a-c]",
    "\\d+ms",
    "loss=\\d+\\.\\d*",
    "(?i)Error|warn",
    "é+",
]
LINES = [
    "",
    "abc",
    "xabcx",
    "bcbcad",
    "xxy",
    "xxxx",
    "12ms",
    "loss=1.25",
    "ERROR: bad",
    "a WARNING",
    "éé",
    "日本",
    "x" * 50 + "y",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_it_finds_what_python_finds(pattern: str) -> None:
    compiled, expected = LinePattern(pattern), re.compile(pattern, re.ASCII)
    assert [compiled.matches(line) for line in LINES] == [bool(expected.search(line)) for line in LINES]


@given(st.text(max_size=30))
def test_any_text_is_a_pattern_or_refused(text: str) -> None:
    with contextlib.suppress(PatternError):
        LinePattern(text).matches(text)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a*)*b", "^(\\w+\\s?)*$", "(x+x+)+y", "(.*)(.*)(.*)(.*)c"])
def test_what_takes_python_for_ever_ends(pattern: str) -> None:
    assert not LinePattern(pattern).matches("a" * 100_000 + "!")


@pytest.mark.parametrize(
    ("pattern", "cause"),
    [
        ("(a", "missing ): (a"),
        ("a)", "unexpected ): a)"),
        ("*a", "no argument for repetition operator: *"),
        ("a{3,2}", "invalid repetition size: {3,2}"),
        ("[z-a]", "invalid character class range: z-a"),
        ("(?=a)", "invalid perl operator: (?="),
        ("((a{1,20}){1,20}){1,20}", "invalid repetition size: {1,20}"),
        ("\\", "trailing \\"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_cause(pattern: str, cause: str) -> None:
    with pytest.raises(PatternError) as caught:
        LinePattern(pattern)
    assert str(caught.value) == f"is no regular expression of RE2: {cause}"


def test_what_needs_too_much_memory_is_refused() -> None:
    with pytest.raises(PatternError, match="pattern too large"):
        LinePattern("(\\pL{1,100}){1,9}")


def test_a_pattern_may_be_so_long_and_no_longer() -> None:
    assert LinePattern("a" * MAX_LENGTH).matches("a" * MAX_LENGTH)
    with pytest.raises(PatternError, match="has 201 characters"):
        LinePattern("a" * (MAX_LENGTH + 1))
