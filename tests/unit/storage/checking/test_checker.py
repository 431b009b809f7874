"""The outcome of a check: all bad rows, what a budget covers, and what is written."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.storage.checking.checks import GOOD, Checked

from services.storage.checking.budget import Budget
from services.storage.checking.outputs import MAX_OFFSETS
from services.storage.checking.violations import MAX_VIOLATIONS

ROW = GOOD.encode() + b"\n"


def test_the_first_hundred_are_listed_and_all_are_counted() -> None:
    checked = Checked(b"{}\n" * 250 + b"1\n" * 50 + ROW)
    assert len(checked.places) == MAX_VIOLATIONS
    assert checked.places[-1][0] == 100
    assert checked.report["violations_by_reason"] == {"DATASET_MESSAGES_MISSING": 250, "DATASET_NOT_OBJECT": 50}
    assert (checked.report["violation_count"], checked.statistics["example_count"]) == (300, 1)


def test_what_ends_the_check_is_always_listed() -> None:
    checked = Checked(b"[" + b"{}," * 150 + b"]")
    assert checked.places[-1] == (1, "", "DATASET_COMMA")
    assert len(checked.places) == MAX_VIOLATIONS


def test_bad_rows_among_many_good_ones_are_found_in_order() -> None:
    rows = [ROW] * 3000
    bad = [0, 1, 700, 1499, 1500, 2998, 2999]
    for index in bad:
        rows[index] = b'{"messages": 5}\n'
    assert [line for line, _, _ in Checked(b"".join(rows)).places] == [index + 1 for index in bad]


def test_without_a_budget_one_bad_row_refuses() -> None:
    checked = Checked(ROW + b"{}\n")
    assert not checked.outcome["accepted"]
    assert not checked.report["valid"]


@pytest.mark.parametrize(
    ("budget", "bad", "accepted"),
    [
        (Budget(2), 2, True),
        (Budget(2), 3, False),
        (Budget(0), 1, False),
        (Budget(0), 0, True),
        (Budget(None, 0.2), 2, True),
        (Budget(None, 0.2), 3, False),
        (Budget(None, 0.0), 1, False),
        (Budget(2, 0.05), 1, False),
        (Budget(1, 0.9), 2, False),
        (Budget(2, 0.2), 2, True),
    ],
)
def test_a_budget_covers_so_many_rows(budget: Budget, bad: int, accepted: bool) -> None:
    checked = Checked(b"{}\n" * bad + ROW * 8, budget=budget)
    assert checked.outcome["accepted"] == accepted
    assert checked.report["valid"] == (not bad)
    assert checked.outcome["dropped_row_count"] == bad
    if accepted:
        assert checked.rows == ROW * 8
        assert [row["line"] for row in checked.dropped] == list(range(1, bad + 1))


def test_a_budget_never_covers_a_file_without_a_good_row() -> None:
    assert not Checked(b"{}\n", budget=Budget(5)).outcome["accepted"]
    assert not Checked(b"", budget=Budget(5)).outcome["accepted"]


def test_a_budget_does_not_cover_a_broken_file() -> None:
    checked = Checked(b"[" + ROW + b",{}," + ROW, budget=Budget(5))
    assert not checked.outcome["accepted"]
    assert checked.outcome["dropped_row_count"] == 1


def test_dropped_rows_are_quoted_and_cut() -> None:
    checked = Checked(ROW + b'{"a": "' + b"\xff" * 9000 + b'"}\n', budget=Budget(1))
    (dropped,) = checked.dropped
    assert set(dropped) == {"line", "path", "reason", "message", "row"}
    assert (dropped["line"], dropped["reason"], len(dropped["row"])) == (2, "DATASET_NOT_UTF8", 4096)
    assert dropped["row"].startswith('{"a": "\ufffd')


def test_nothing_is_written_once_the_file_is_refused() -> None:
    checked = Checked(ROW + b"{}\n" * 3 + ROW * 5, budget=Budget(1))
    assert checked.rows == ROW
    assert len(checked.dropped) <= 2


@pytest.mark.parametrize(
    ("content", "equal"),
    [
        (ROW * 3, True),
        (ROW[:-1], False),
        (b"\xef\xbb\xbf" + ROW, False),
        (ROW.replace(b"\n", b"\r\n"), False),
        (ROW + b"\n" + ROW, False),
        (b" " + ROW, False),
        (b"[" + ROW + b"]", False),
        (ROW + b"{}\n", False),
    ],
)
def test_whether_the_rows_are_the_file_is_told(content: bytes, equal: bool) -> None:
    for cut in (0, 1):
        checked = Checked(content, cut=cut, budget=Budget(1))
        assert checked.outcome["rows_equal_file"] == equal
        assert (checked.rows == content) == equal


def test_size_and_hash_are_those_of_the_rows() -> None:
    checked = Checked(b" " + ROW + b"\r\n" + ROW)
    assert checked.outcome["rows_sha256"] == hashlib.sha256(checked.rows).hexdigest()
    assert checked.outcome["rows_size_bytes"] == len(checked.rows) == 2 * len(ROW)
    assert checked.report["size_bytes"] == 2 * len(ROW) + 3


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 500))
def test_the_index_points_at_rows(lengths: list[int], cut: int) -> None:
    checked = Checked(b"".join(json.dumps({"text": "x" * length}).encode() + b"\n" for length in lengths), cut=cut)
    index = checked.outcome["index"]
    starts = [0]
    for row in checked.rows.splitlines(keepends=True):
        starts.append(starts[-1] + len(row))
    assert index == {"every": 1, "offsets": starts[:-1]}


def test_the_index_stays_small() -> None:
    row = b'{"text": "x"}\n'
    checked = Checked(row * 10_000, cut=999)
    index = checked.outcome["index"]
    assert len(index["offsets"]) <= MAX_OFFSETS
    assert index["every"] == 4
    assert index["offsets"] == list(range(0, 10_000 * len(row), 4 * len(row)))
