"""Repeats are found as a comparison of every row with every other would find them."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.storage.checking import fingerprints
from services.storage.checking.example import Batch, Format
from services.storage.checking.fingerprints import Fingerprints, Repeats

Row = tuple[str, int]
rows_of = st.tuples(st.text(st.sampled_from("aAb1 .\x1e\x1fé"), max_size=4), st.integers(0, 1))
SHAPES = (("user", "assistant"), ("system", "user", "assistant"))
IGNORED = {char for char in map(chr, range(128)) if char not in string.ascii_letters + "\x1e"}


def normal(text: str) -> str:
    return "".join(char.lower() if char in string.ascii_letters else char for char in text if char not in IGNORED)


def found(rows: list[Row], *, size: int = 3, **options: int) -> Repeats:
    prints = Fingerprints(**options)
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        batch = Batch(Format.CHAT, [SHAPES[shape] for _, shape in part], [text for text, _ in part], [""] * len(part), (), 0)
        prints.add(batch, range(start + 1, start + 1 + len(part)))
    return prints.repeats()


def expected(rows: list[Row]) -> tuple[int, int]:
    exact = len(rows) - len(set(rows))
    return exact, len(set(rows)) - len({(normal(text), shape) for text, shape in rows})


@given(st.lists(rows_of, min_size=1, max_size=12), st.integers(1, 5))
def test_repeats_are_those_of_a_full_comparison(rows: list[Row], size: int) -> None:
    repeats = found(rows, size=size)
    assert (repeats.exact, repeats.near) == expected(rows)
    assert repeats.compared == len(rows)


@given(st.lists(rows_of, min_size=1, max_size=12))
def test_the_first_repeated_rows_are_named(rows: list[Row]) -> None:
    again = [number for number, row in enumerate(rows, 1) if row in rows[: number - 1]]
    assert list(found(rows).exact_lines) == again[:5]


def test_near_repeats_are_named_behind_the_first() -> None:
    repeats = found([("Hello!", 0), ("other", 0), ("hello", 0), ("HELLO 1", 0), ("Hello!", 0)])
    assert (repeats.exact, repeats.near, list(repeats.exact_lines)) == (1, 2, [5])
    assert list(repeats.near_lines)[:2] == [3, 4]


def test_the_same_words_in_other_roles_are_no_repeat() -> None:
    repeats = found([("a", 0), ("a", 1)])
    assert (repeats.exact, repeats.near) == (0, 0)


@pytest.mark.parametrize("room", [1, 4, 10])
def test_rows_behind_the_bound_are_not_compared(room: int) -> None:
    repeats = found([("a", 0)] * 10, max_rows=room)
    assert (repeats.exact, repeats.compared) == (room - 1, room)


def test_many_rows_are_compared_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(f"{number % 50_000:06}".translate(str.maketrans("0123456789", "abcdefghij")), 0) for number in range(70_000)]
    repeats = found(rows, size=1000)
    assert (repeats.exact, repeats.near, list(repeats.exact_lines)) == (20_000, 0, [50_001, 50_002, 50_003, 50_004, 50_005])
    monkeypatch.setattr(fingerprints, "_BUCKETS", 4)
    assert found(rows, size=1000) == repeats


def test_line_numbers_behind_four_billion_are_no_trouble() -> None:
    prints = Fingerprints()
    batch = Batch(Format.TEXT, [()] * 2, ["a", "a"], ["", ""], (), 2)
    prints.add(batch, [2**32 - 1, 2**32 + 5])
    assert list(prints.repeats().exact_lines) == [5]
