"""Whole files of good and bad rows in every layout: each bad row is found at its line, each good one is kept as it is."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.storage.checking.checks import ANSWER, USER, Checked, of

from services.storage.checking.budget import Budget

CALL = '{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}'
CALLING = f'{{"role": "assistant", "content": null, "tool_calls": [{CALL}]}}'
FOUND = '{"role": "tool", "content": "21", "tool_call_id": "c1"}'
TOOLS = ', "tools": [{"type": "function", "function": {"name": "f"}}]'
PARTS = '{"role": "user", "content": [{"type": "text", "text": "é"}]}'
GOOD = (
    of(USER, ANSWER),
    of(USER, ANSWER, more=', "id": 7'),
    of(USER, ANSWER, more=', "meta": {"a": [1, {"b": "\\u0022"}]}'),
    of(USER, CALLING, FOUND, ANSWER, more=TOOLS),
    of(PARTS, ANSWER),
    of(USER, ANSWER, more=', "seed": 0.123456789012345678901234'),
    of(*[USER, ANSWER] * 20),
)
BAD = {
    "nonsense": "DATASET_NOT_JSON",
    "[1]": "DATASET_NOT_OBJECT",
    '{"messages": []}': "DATASET_MESSAGES_MISSING",
    of(USER): "DATASET_NO_ASSISTANT",
    of(USER, ANSWER, more=', "id": 1, "id": 2'): "DATASET_DUPLICATE_KEY",
    of(USER, ANSWER, more=', "id": 1e999'): "DATASET_NUMBER",
    of(USER, ANSWER, more=', "label": "a"'): "DATASET_FORMAT_MIXED",
    of(USER, CALLING.replace('"{}"', '"{"'), FOUND, ANSWER): "DATASET_TOOL_CALL_INVALID",
    of(USER, ANSWER, more=TOOLS.replace('"f"', '""')): "DATASET_TOOLS_INVALID",
    of(USER, ANSWER.replace("yo", "\\ud800")): "DATASET_LONE_SURROGATE",
    of(USER, ANSWER, more=', "id": ' + "[" * 32 + "]" * 32): "DATASET_TOO_DEEP",
}
IN_ARRAYS = {row: reason for row, reason in BAD.items() if row != "nonsense"}


@dataclasses.dataclass(frozen=True)
class File:
    """A file with the lines and reasons of its bad rows, and its good rows."""

    content: bytes
    places: list[tuple[int, str]]
    good: list[str]


@st.composite
def files(draw: st.DrawFn, bad: dict[str, str], *, array: bool) -> File:
    rows = draw(st.lists(st.sampled_from([*GOOD, *GOOD, *bad]), min_size=1, max_size=30))
    rows.insert(0, GOOD[0])  # the first good row tells the format
    end = draw(st.sampled_from(["\n", "\r\n", "\n\n"]))
    mark = draw(st.sampled_from(["", "\ufeff"]))
    step = end.count("\n")
    places = [(1 + index * step, bad[row]) for index, row in enumerate(rows) if row in bad]
    text = "[" + f",{end}".join(rows) + "]" if array else end.join(rows) + draw(st.sampled_from(["", end]))
    return File((mark + text).encode(), places, [row for row in rows if row not in bad])


def agrees(file: File, cut: int) -> None:
    checked = Checked(file.content, cut=cut, budget=Budget(100))
    assert [(line, reason) for line, _, reason in checked.places] == file.places
    assert checked.rows.decode().splitlines() == file.good
    assert checked.statistics["example_count"] == len(file.good)
    assert [row["line"] for row in checked.dropped] == [line for line, _ in file.places]


@settings(max_examples=40, deadline=None)
@given(files(BAD, array=False), st.sampled_from([0, 50, 333]))
def test_lines_are_judged_each_for_itself(file: File, cut: int) -> None:
    agrees(file, cut)


@settings(max_examples=40, deadline=None)
@given(files(IN_ARRAYS, array=True), st.sampled_from([0, 50, 333]))
def test_elements_are_judged_each_for_itself(file: File, cut: int) -> None:
    agrees(file, cut)


@settings(max_examples=40, deadline=None)
@given(files(IN_ARRAYS, array=True))
def test_an_array_says_what_its_rows_say_on_lines(file: File) -> None:
    on_lines = Checked("\n".join(file.good).encode())
    in_array = Checked(("[" + ", ".join(file.good) + "]").encode())
    assert in_array.statistics == on_lines.statistics
    assert in_array.rows == on_lines.rows


@pytest.mark.parametrize("row", GOOD)
@pytest.mark.parametrize("count", [1, 9, 300])
def test_a_file_of_equal_rows_has_them_all(row: str, count: int) -> None:
    checked = Checked("\n".join([row] * count).encode())
    assert checked.report["valid"]
    assert checked.statistics["duplicate_count"] == count - 1
    messages = json.loads(row)["messages"]
    assert checked.statistics["message_count"] == count * len(messages)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("at", [1, 150, 299])
def test_a_bad_row_is_found_wherever_it_is(bad: str, at: int) -> None:
    rows: list[Any] = [GOOD[index % len(GOOD)] for index in range(300)]
    rows[at] = bad
    checked = Checked("\n".join(rows).encode())
    assert [(line, reason) for line, _, reason in checked.places] == [(at + 1, BAD[bad])]
    assert not checked.outcome["accepted"]
