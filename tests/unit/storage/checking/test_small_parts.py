"""The small parts of the checker: budgets, quotes, suggestions, labels, violations, and what is written of rows."""

import collections
import hashlib
import io
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.catalogue import CATALOGUE
from services.storage.checking import suggestion
from services.storage.checking.block import Block
from services.storage.checking.budget import Budget
from services.storage.checking.example import Format
from services.storage.checking.json_number import floating, integer
from services.storage.checking.labels import Labels
from services.storage.checking.outputs import DroppedOutput, RowsOutput
from services.storage.checking.problem import FileProblem, RowProblem
from services.storage.checking.quoting import kind, quoted
from services.storage.checking.violations import MAX_VIOLATIONS, Violations

counts = st.integers(0, 30)


@given(st.none() | counts, st.none() | st.sampled_from([0.0, 0.1, 0.5, 1.0]), counts, counts)
def test_a_budget_holds_when_both_limits_do(rows: int | None, ratio: float | None, bad: int, good: int) -> None:
    budget = Budget(rows, ratio)
    none = rows is None and ratio is None
    within = (rows is None or bad <= rows) and (ratio is None or bad <= ratio * (bad + good))
    assert budget.covers(bad, bad + good) is (bad == 0 or (not none and within))


@given(st.none() | counts, st.none() | st.floats(0, 1), counts, counts)
def test_what_may_not_be_covered_never_is(rows: int | None, ratio: float | None, bad: int, good: int) -> None:
    budget = Budget(rows, ratio)
    assert budget.may_cover(bad) or not budget.covers(bad, bad + good)


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(), ""),
        (Budget(3), "max_invalid_rows 3"),
        (Budget(None, 0.25), "max_invalid_ratio 0.25"),
        (Budget(0, 0.5), "max_invalid_rows 0 and max_invalid_ratio 0.5"),
    ],
)
def test_a_budget_says_what_was_asked_for(budget: Budget, said: str) -> None:
    assert str(budget) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a", "'a'"),
        ("it's", '"it\'s"'),
        ("a\tb\0", "'a\\tb\\x00'"),
        ("\ud800", "'\\ud800'"),
        ("x" * 60, repr("x" * 60)),
        ("x" * 61, repr("x" * 57 + "...")),
        (7, "'7'"),
        (True, "'True'"),
        ([1] * 10**6, "'a list'"),
        ({"a": 1}, "'an object'"),
    ],
    ids=["text", "quotes", "control", "half", "60", "61", "number", "true", "list", "object"],
)
def test_values_are_quoted_and_cut(value: Any, said: str) -> None:
    assert quoted(value) == said


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "null"),
        (True, "true or false"),
        (1, "a number"),
        (0.5, "a number"),
        ("", "a text"),
        ([], "a list"),
        ({}, "an object"),
    ],
)
def test_kinds_are_named(value: Any, name: str) -> None:
    assert kind(value) == name


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("-0", 0), ("9" * 19, int("9" * 19)), ("-" + "9" * 19, -int("9" * 19))])
def test_integers_of_19_digits_are_read(text: str, value: int) -> None:
    assert integer(text) == value


@pytest.mark.parametrize(
    ("read", "text"), [(integer, "9" * 20), (integer, "-" + "9" * 5000), (floating, "1e309"), (floating, "-1e999")]
)
def test_numbers_that_programs_read_differently_are_refused(read: Any, text: str) -> None:
    with pytest.raises(ValueError, match=r"^the number .{1,60}$"):
        read(text)


@pytest.mark.parametrize(
    ("role", "says"),
    [
        ("human", "did you mean 'user'?"),
        (" GPT ", "did you mean 'assistant'?"),
        ("asistant", "did you mean 'assistant'?"),
        ("System", "did you mean 'system'?"),
        ("zzz", "role 'zzz' is unknown"),
        ("x" * 10_000, "..."),
    ],
)
def test_a_role_that_was_meant_is_suggested(role: str, says: str) -> None:
    assert says in suggestion.for_role(role, ("system", "user", "assistant"))


@pytest.mark.parametrize(
    ("key", "message", "says"),
    [
        ("role", ["from", "value"], "rename 'from' to 'role'"),
        ("content", ["role", "value"], "rename 'value' to 'content'"),
        ("content", ["role", "contents"], "rename 'contents' to 'content'"),
        ("content", ["role"], "there is 'role'"),
        ("role", [], "the object is empty"),
        ("role", [f"k{number}" for number in range(9)], "there is 'k0', 'k1', 'k2', 'k3', 'k4'"),
    ],
)
def test_a_key_that_was_meant_is_suggested(key: str, message: list[str], says: str) -> None:
    assert suggestion.for_missing_key(key, message).endswith(says)


@pytest.mark.parametrize(("word", "found"), [("messages", "messages"), ("mesages", "messages"), ("id", ""), ("m" * 61, "")])
def test_only_near_words_are_near(word: str, found: str) -> None:
    assert suggestion.closest(word, ("messages", "tools")) == found


@pytest.mark.parametrize(
    ("row", "layout"),
    [
        ({"conversations": []}, ("ShareGPT", "sharegpt")),
        ({"instruction": "", "output": "", "input": ""}, ("Alpaca", "alpaca")),
        ({"prompt": "", "chosen": "", "rejected": ""}, ("chosen/rejected", "chosen-rejected")),
        ({"prompt": "", "response": ""}, ("prompt/completion", "prompt-completion")),
        ({"text": "", "label": ""}, ("text/label", "text-label")),
        ({"instruction": ""}, None),
        ({}, None),
    ],
)
def test_layouts_of_others_are_known(row: dict[str, Any], layout: tuple[str, str] | None) -> None:
    assert suggestion.other_layout(row) == layout


def test_a_wrapper_holds_a_list() -> None:
    assert suggestion.wrapper({"id": 1, "rows": []}) == "rows"
    assert suggestion.wrapper({"data": {}, "train": "x"}) == ""


def labels_of(found: Format, *endings: str) -> list[tuple[str, int]]:
    labels = Labels()
    labels.add(found, endings)
    return labels.most_common()


def test_labels_are_ordered_by_rows_and_then_by_text() -> None:
    assert labels_of(Format.LABELED, "b", "a", "c", "c") == [("c", 2), ("a", 1), ("b", 1)]


def test_short_answers_that_repeat_are_labels_and_others_are_not() -> None:
    assert labels_of(Format.CHAT, *["yes", "no"] * 10) == [("no", 10), ("yes", 10)]
    assert labels_of(Format.CHAT, *["yes", "no"] * 9) == []
    assert labels_of(Format.CHAT, *["yes", "no"] * 10, "x" * 201) == []
    assert labels_of(Format.CHAT, *["yes", "no"] * 10, "") == []
    assert labels_of(Format.CHAT, *map(str, range(100))) == []
    assert labels_of(Format.TEXT, *["yes", "no"] * 10) == []


def test_a_row_without_an_answer_ends_the_search_for_labels() -> None:
    labels = Labels()
    labels.add(Format.CHAT, ["yes", "no"] * 10)
    labels.no_answer()
    labels.add(Format.CHAT, ["yes", "no"] * 10)
    assert labels.most_common() == []


def test_only_so_many_labels_are_told_apart() -> None:
    labels = Labels()
    labels.add(Format.LABELED, [str(number) for number in range(100_000)])
    labels.add(Format.LABELED, ["new", "7", "7"])
    assert (len(labels.counts), labels.counts["7"], labels.most_common()[0]) == (100_000, 3, ("7", 3))


BLOCK = Block([b'{"a": x}', b'{ "b": x}', b"{  x}"], [4, 7, 9], [1, 3, 2], [b'{"a": x}', b'{\n"b": x}', b"{\n\nx}"])


@pytest.mark.parametrize(
    ("index", "offset", "place"), [(0, 0, (4, 1, 0)), (0, 6, (4, 7, 0)), (1, 0, (7, 3, 0)), (1, 2, (7, 1, 1)), (2, 3, (9, 1, 2))]
)
def test_a_place_in_a_row_is_a_line_and_a_column(index: int, offset: int, place: tuple[int, int, int]) -> None:
    assert BLOCK.place(index, offset) == place


def test_a_place_counts_characters_and_not_bytes() -> None:
    assert Block(['{"ä": "日", x}'.encode()], [2]).place(0, 11) == (2, 12, 0)


def violations(count: int) -> Violations:
    found = Violations()
    for number in range(count):
        found.add_row(Block([b"{}"], [number + 1]), 0, RowProblem("DATASET_TEXT", "text", "is empty"))
    return found


def test_a_violation_has_everything_that_is_needed_to_mend_the_row() -> None:
    found = Violations().add_row(BLOCK, 1, RowProblem("DATASET_COMMA", "b", "a comma", offset=5))
    hint = CATALOGUE["DATASET_COMMA"].hint
    assert found == {
        "line": 7,
        "path": "b",
        "reason": "DATASET_COMMA",
        "message": "a comma (line 8, column 4)",
        "hint": hint,
        "column": 0,
    }


def test_a_hint_of_its_own_replaces_that_of_the_catalogue() -> None:
    problem = RowProblem("DATASET_TEXT", "", "is bad", hint="Do that.")
    assert Violations().add_row(Block([b"{}"], [1]), 0, problem)["hint"] == "Do that."


@pytest.mark.parametrize("count", [0, 1, MAX_VIOLATIONS, MAX_VIOLATIONS + 50])
def test_the_first_are_listed_and_all_are_counted(count: int) -> None:
    found = violations(count)
    assert [violation["line"] for violation in found.listed] == list(range(1, min(count, MAX_VIOLATIONS) + 1))
    assert (found.bad_rows, found.reasons["DATASET_TEXT"]) == (count, count)


def test_what_ends_the_check_takes_the_last_place_of_the_list() -> None:
    found = violations(MAX_VIOLATIONS + 5)
    found.add_file(FileProblem("DATASET_ARRAY_TRUNCATED", "ends", line=200, column=3))
    assert len(found.listed) == MAX_VIOLATIONS
    assert (found.listed[-1]["reason"], found.listed[-1]["line"], found.listed[-1]["column"]) == (
        "DATASET_ARRAY_TRUNCATED",
        200,
        3,
    )
    assert found.bad_rows == MAX_VIOLATIONS + 5


@given(st.lists(st.lists(st.binary(max_size=6).filter(lambda row: b"\n" not in row), min_size=1, max_size=9), max_size=9))
def test_rows_are_written_hashed_and_counted(batches: list[list[bytes]]) -> None:
    file = io.BytesIO()
    output = RowsOutput(file)
    for batch in batches:
        output.add(batch)
    content = b"".join(row + b"\n" for row in itertools.chain(*batches))
    assert (file.getvalue(), output.size_bytes, output.row_count) == (content, len(content), content.count(b"\n"))
    assert output.sha256 == hashlib.sha256(content).hexdigest()


def test_nothing_is_written_once_it_is_stopped_and_all_is_counted() -> None:
    file = io.BytesIO()
    output = RowsOutput(file)
    output.add([b"a"])
    output.stop()
    output.add([b"b"])
    assert (file.getvalue(), output.row_count) == (b"a\n", 2)


def test_left_out_rows_are_quoted_as_far_as_they_are_read() -> None:
    file = io.BytesIO()
    output = DroppedOutput(file)
    said = {"line": 3, "path": "a", "reason": "R", "message": "m", "hint": "h", "column": 1}
    output.add(said, "ä".encode() * 5000)
    output.add(said, b"\xff")
    output.stop()
    output.add(said, b"x")
    rows = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [row["row"] for row in rows] == ["ä" * 4096, "\ufffd"]
    assert rows[0].keys() == {"line", "path", "reason", "message", "row"}


def test_reasons_are_counted_apart() -> None:
    found = violations(2)
    found.add_row(Block([b"x"], [9]), 0, RowProblem("DATASET_NOT_JSON", "", "words"))
    assert found.reasons == collections.Counter({"DATASET_TEXT": 2, "DATASET_NOT_JSON": 1})
