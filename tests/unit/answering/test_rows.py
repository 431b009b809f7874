"""Rows of a dataset as questions: whatever OpenAI's format permits in a turn."""

import collections
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.answering.rows import question_and_answer, read_items, spread_rows, to_answer

CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "sum", "arguments": '{"b":3, "a":2}'}}],
}


def turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


@pytest.fixture
def read(tmp_path: Path):
    def reader(*rows: dict[str, Any], split=question_and_answer, most: int | None = None, system: str = "") -> list:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return list(read_items(path, split, most=most, system=system))

    return reader


@pytest.mark.parametrize(
    ("turns", "asked", "reference"),
    [
        ([turn("user", "a"), turn("assistant", "b"), turn("user", "c"), turn("assistant", "d")], ["a", "b", "c"], "d"),
        ([turn("user", "a"), turn("assistant", parts("x", "y"))], ["a"], "xy"),
        ([turn("user", "a"), CALL, turn("tool", "5"), turn("assistant", "five")], ["a", "", "5"], "five"),
        ([turn("user", "a"), CALL], ["a"], '[{"arguments": {"a": 2, "b": 3}, "name": "sum"}]'),
        ([turn("user", "a"), turn("assistant", "")], ["a"], ""),
        ([turn("user", "a")], ["a"], ""),
        ([turn("assistant", "first")], [], "first"),
    ],
    ids=["several answers", "parts", "tool before", "tool last", "empty", "none", "only an answer"],
)
def test_the_known_answer_is_the_last_turn_of_the_assistant(read, turns, asked: list[str], reference: str) -> None:
    (item,) = read({"messages": turns})
    assert ([asked["content"] for asked in item.messages], item.reference) == (asked, reference)


def test_the_label_is_the_known_answer_whatever_the_turns_say(read) -> None:
    turns = [turn("user", "a"), turn("assistant", "b")]
    for label, reference in (("refund", "refund"), (3, "3"), (0, "0"), ("", "")):
        (item,) = read({"messages": turns, "label": label})
        assert ([asked["content"] for asked in item.messages], item.reference) == (["a", "b"], reference)


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        (["developer", "user"], ["system", "user"]),
        (["system", "user"], ["system", "user"]),
        (["user", "tool", "user"], ["user", "tool", "user"]),
    ],
    ids=["developer", "system", "tool"],
)
def test_roles_are_those_of_the_models(read, roles: list[str], expected: list[str]) -> None:
    (item,) = read({"messages": [turn(role, "x") for role in roles]}, split=to_answer)
    assert [asked["role"] for asked in item.messages] == expected


def test_a_system_text_takes_the_place_of_every_other(read) -> None:
    turns = [turn("developer", "a"), turn("user", "b"), turn("system", "c"), turn("user", "d")]
    (item,) = read({"messages": turns}, split=to_answer, system="Mine.")
    assert item.messages == (turn("system", "Mine."), turn("user", "b"), turn("user", "d"))


def test_the_prompt_is_the_last_thing_the_user_says(read) -> None:
    first, second = read(
        {"messages": [turn("user", "a"), turn("user", "b"), turn("tool", "c")]}, {"messages": [turn("system", "s")]}
    )
    assert (first.prompt, second.prompt) == ("b", "")


def test_rows_are_numbered_as_in_the_file_and_kept_as_they_are(read) -> None:
    rows = [{"messages": [turn("user", f"é{n}")], "source": n} for n in range(1, 4)]
    assert [(item.number, item.row) for item in read(*rows)] == list(enumerate(rows, 1))


@pytest.mark.parametrize(("most", "count"), [(None, 3), (0, 0), (1, 1), (3, 3), (9, 3)])
def test_only_so_many(read, most: int | None, count: int) -> None:
    assert len(read(*[{"messages": [turn("user", "a")]}] * 3, most=most)) == count


COUNTS = st.tuples(st.integers(0, 3000), st.integers(1, 300))


@given(COUNTS)
def test_spread_rows_are_one_of_each_stretch(numbers: tuple[int, int]) -> None:
    count, most = numbers
    chosen = sorted(spread_rows(count, most))
    assert len(chosen) == min(count, most)
    for place, row in enumerate(chosen):
        assert place * count // len(chosen) < row <= (place + 1) * count // len(chosen)


def test_spread_rows_are_always_the_same() -> None:
    assert sorted(spread_rows(40, 8)) == [4, 9, 15, 20, 21, 29, 35, 40]


@pytest.mark.parametrize("label", [lambda row: row * 20 // 4000, lambda row: row % 20], ids=["sorted", "in turns"])
def test_spread_rows_have_every_label_about_as_often_as_the_data(label) -> None:
    found = collections.Counter(label(row - 1) for row in spread_rows(4000, 200))
    assert set(found) == set(range(20))
    assert max(found.values()) <= 22


def test_rows_that_are_spread_keep_their_numbers_and_their_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"messages": [{{"role": "user", "content": "{number}"}}]}}\n' for number in range(1, 41)))
    items = list(read_items(path, to_answer, most=8, system="", spread=True))
    assert [item.number for item in items] == sorted(spread_rows(40, 8))
    assert all(item.prompt == str(item.number) for item in items)
    assert len(list(read_items(path, to_answer, most=None, system="", spread=True))) == 40


def test_rows_are_read_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\nnot json\n')
    items = read_items(path, to_answer, most=None, system="")
    assert next(items).messages == (turn("user", "a"),)
    with pytest.raises(ValueError, match="Expecting value"):
        next(items)


def test_a_generation_leaves_out_only_an_answer_at_the_very_end(read) -> None:
    asked = [turn("user", "a"), turn("assistant", "b"), turn("user", "c")]
    for turns in (asked, [*asked, turn("assistant", "d")]):
        (item,) = read({"messages": turns}, split=to_answer)
        assert ([asked["content"] for asked in item.messages], item.reference) == (["a", "b", "c"], "")
