"""Patterns match what Python's regular expressions match, in a time that grows with the line alone."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.task_manager.domain import line_pattern
from services.task_manager.domain.line_pattern import LinePattern
from services.task_manager.domain.pattern_syntax import MAX_LENGTH, PatternError, parse

PATTERNS = [
    "abc",
    "^abc$",
    "a|b|",
    "^$",
    "(a|bc)+d",
    "x{2}",
    "x{2,}y",
    "^x{1,3}$",
    "^x{0}$",
    "a??b",
    "(?:ab)*c",
    "[a-c]",
    "[^a-c]",
    "[]a]",
    "[a\\]x-]",
    "[\\d.]+",
    "\\d+ms",
    "^\\w+\\s\\W",
    "\\D\\S",
    "loss=\\d+\\.\\d*",
    "(?i)Error|warn",
    "(?i)[a-f]+$",
    "\\(x\\)",
    ".*a.b",
    "é+",
    "\\t",
    "^[^-]*-[^-]*$",
]
LINES = ["", "abc", "xabcx", "a", "bcbcad", "xxy", "xxxx", "xxx", "ab", "ababc", "]", "d", "12.5 ms", "12ms", "ab -", "loss=1.25",
         "ERROR: bad", "a WARNING", "(x)", "éé", "\t", "a-b", "--", "日本", "x" * 50 + "y", "deadBEEF"]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_it_finds_what_python_finds(pattern: str) -> None:
    compiled, expected = LinePattern(pattern), re.compile(pattern, re.ASCII)
    for line in LINES:
        assert compiled.matches(line) is bool(expected.search(line)), line


def trees() -> st.SearchStrategy[str]:
    """Patterns over a and b, nested as they come."""
    leaves = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", "(?:^a)", "(?:b$)"])
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=3).map("".join),
            st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
            st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}"])).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
        ),
        max_leaves=6,
    )


@given(trees(), st.text("abc", max_size=9))
def test_any_pattern_finds_what_python_finds(pattern: str, line: str) -> None:
    try:
        compiled = LinePattern(pattern)
    except PatternError:
        return
    assert compiled.matches(line) is bool(re.search(pattern, line))


@given(st.text(max_size=30))
def test_any_text_is_a_pattern_or_refused(text: str) -> None:
    with contextlib.suppress(PatternError):
        LinePattern(text)


class CountingLine(str):
    """Counts how often its characters are asked for."""

    reads = 0

    def __iter__(self):  # type: ignore[no-untyped-def]
        for character in super().__iter__():
            self.reads += 1
            yield character


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "(a*)*b", "^(\\w+\\s?)*$", "(x+x+)+y", "(.*)(.*)(.*)(.*)c"])
def test_what_takes_others_for_ever_reads_each_character_once(pattern: str) -> None:
    line = CountingLine("a" * 16_000 + "!")
    LinePattern(pattern).matches(line)
    assert line.reads <= len(line)


@pytest.mark.parametrize(
    "pattern", ["((a{1,20}){1,20}){1,20}", "(a|b)*a(a|b){12}", "(.{0,99}x){9}"], ids=["nested", "exponential", "wide"]
)
def test_what_needs_too_large_an_automaton_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError, match="too complex"):
        LinePattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(a", "a ( is not closed at character 3"),
        ("a)", "there is a ) without ( at character 2"),
        ("*a", "there is nothing before * to repeat at character 1"),
        ("a{2", "a repetition is not closed; write \\{ for the character at character 4"),
        ("a{3,2}", "{3,2} is the wrong way round at character 7"),
        ("a{101}", "a repetition needs a number of at most 100; write \\{ for the character at character 6"),
        ("[a", "it ends in the middle at character 3"),
        ("[z-a]", "a range in a set is the wrong way round at character 5"),
        ("\\1", "\\1 is not known; \\d \\w \\s \\t and \\ before punctuation are at character 3"),
        ("\\b", "\\b is not known; \\d \\w \\s \\t and \\ before punctuation are at character 3"),
        ("(?=a)", "of the groups with ? only (?: ) is known, and (?i) in front at character 3"),
        ("\\", "it ends in the middle at character 2"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_place(pattern: str, message: str) -> None:
    with pytest.raises(PatternError) as caught:
        parse(pattern)
    assert str(caught.value) == message


def test_a_pattern_may_be_so_long_and_no_longer() -> None:
    assert LinePattern("a" * MAX_LENGTH).matches("a" * MAX_LENGTH)
    with pytest.raises(PatternError, match="201 characters"):
        parse("a" * (MAX_LENGTH + 1))


def test_what_would_take_long_to_compile_is_refused_for_that_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_pattern, "_MAX_STATES", 10**9)
    letters = "".join(map(chr, range(0x4E00, 0x4E00 + 150)))
    with pytest.raises(PatternError, match="too complex"):
        LinePattern(f"(.{{0,99}}){{4}}{letters}x")
