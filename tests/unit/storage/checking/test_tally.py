"""What is counted of usable rows, and the warnings that follow from it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.storage.checking.checks import ANSWER, USER, Checked, of

from services.common.dataset_reasons import WARNINGS
from services.storage.checking.example import ASSISTANT, SILENT, Batch, Format, batch_of
from services.storage.checking.fingerprints import Fingerprints
from services.storage.checking.row import read_value
from services.storage.checking.tally import MAX_TURNS, SHOWN_LINES, Notable, Tally
from services.storage.checking.warnings import FEW_EXAMPLES, warnings

SYSTEM, ASK, SAY = "system", "user", ASSISTANT


def batch(*shapes: tuple[str, ...], **options: Any) -> Batch:
    texts = [f"{number}" for number in range(len(shapes))]
    return Batch(options.pop("format", Format.CHAT), shapes, texts, ["a"] * len(shapes), (), 0, **options)


def tally(*batches: Batch) -> Tally:
    found, line = Tally(), 1
    for each in batches:
        found.add(each, range(line, line + len(each.texts)))
        line += len(each.texts)
    return found


@given(st.lists(st.lists(st.sampled_from([SYSTEM, "developer", ASK, SAY, SILENT, "tool"]), min_size=1, max_size=5), min_size=1))
def test_roles_and_turns_are_counted(conversations: list[list[str]]) -> None:
    found = tally(batch(*map(tuple, conversations)))
    said = [SAY if kind == SILENT else kind for shape in conversations for kind in shape]
    assert dict(found.roles) == {role: said.count(role) for role in set(said)}
    turns = [sum(kind in (SAY, SILENT) for kind in shape) for shape in conversations]
    assert dict(found.turns) == {number: turns.count(number) for number in set(turns)}
    assert found.without_system.count == sum(not {SYSTEM, "developer"} & set(shape) for shape in conversations)
    assert found.last_not_assistant.count == sum(shape[-1] not in (SAY, SILENT) for shape in conversations)


@given(st.lists(st.sampled_from([(ASK, SAY), (SYSTEM, ASK, SAY), (ASK, SAY, ASK)]), min_size=1, max_size=20), st.integers(1, 7))
def test_it_is_the_same_however_rows_come_together(shapes: list[tuple[str, ...]], size: int) -> None:
    whole = tally(batch(*shapes))
    parts = tally(*(batch(*shapes[start : start + size]) for start in range(0, len(shapes), size)))
    for name in ("row_count", "roles", "turns"):
        assert getattr(parts, name) == getattr(whole, name)
    for name in ("without_system", "last_not_assistant"):
        part, all_at_once = getattr(parts, name), getattr(whole, name)
        assert (part.count, part.lines) == (all_at_once.count, all_at_once.lines)
        assert part.lines == sorted(part.lines)


def test_the_report_is_the_same_however_a_file_of_several_shapes_is_cut() -> None:
    other = of(USER, ANSWER, USER)
    content = "\n".join([of(USER, ANSWER), other, other, of(USER, ANSWER), of(USER, USER, ANSWER)] * 4).encode()
    whole = Checked(content)
    assert whole.warnings["DATASET_WITHOUT_SYSTEM"]["lines"] == [1, 2, 3, 4, 5]
    assert whole.warnings["DATASET_LAST_NOT_ASSISTANT"]["lines"] == [2, 3, 7, 8, 12]
    for cut in (13, 100, 333):
        assert Checked(content, cut=cut).outcome == whole.outcome


def test_many_turns_count_as_ten() -> None:
    assert dict(tally(batch((ASK, SAY) * 9, (ASK, SAY) * 10, (ASK, SAY) * 11)).turns) == {9: 1, MAX_TURNS: 2}


def test_both_outputs_of_a_preference_row_are_one_turn() -> None:
    assert dict(tally(batch((ASK, SAY, SAY), format=Format.PREFERENCE)).turns) == {1: 1}


def test_texts_have_no_turns_and_miss_no_system_message() -> None:
    found = tally(batch((), (), format=Format.TEXT))
    assert (found.row_count, found.turns.total(), found.without_system.count) == (2, 0, 0)


def test_messages_that_say_nothing_are_counted_with_their_rows() -> None:
    row = {"messages": [{"role": "user", "content": ""}, {"role": "user", "content": " "}, {"role": "assistant", "content": "a"}]}
    found = tally(batch((ASK, SAY)), batch_of([read_value(row, None)] * 2))
    assert (found.empty_content.count, found.empty_content.lines) == (4, [2, 3])


def test_keys_that_train_nothing_are_named_in_order_and_only_the_first() -> None:
    keys = [("a",), (), ("b", "c"), ("a",), ("d", "e", "f")]
    found = tally(batch(*[(ASK, SAY)] * 5, ignored_keys=keys))
    assert found.ignored_names == ["a", "b", "c", "d", "e"]
    assert (found.ignored_keys.count, found.ignored_keys.lines) == (4, [1, 3, 4, 5])


@given(st.lists(st.integers(0, 5), max_size=6))
def test_of_notable_rows_the_first_lines_are_kept(counts: list[int]) -> None:
    notable, line, lines = Notable(), 1, []
    for count in counts:
        notable.add(count, iter(range(line, line + count)))
        lines += range(line, line + count)
        line += count
    assert (notable.count, notable.lines) == (sum(counts), lines[:SHOWN_LINES])


def told(*batches: Batch) -> dict[str, dict[str, Any]]:
    found = tally(*batches)
    return {warning["reason"]: warning for warning in warnings(found, found.repeats())}


ENOUGH = [(SYSTEM, ASK, SAY)] * FEW_EXAMPLES


def test_rows_without_fault_have_no_warning() -> None:
    rows = [{"messages": [{"role": r, "content": f"{r} {chr(97 + n)}"} for r in ENOUGH[0]]} for n in range(FEW_EXAMPLES)]
    assert Checked("\n".join(map(json.dumps, rows)).encode()).report["warnings"] == []


@pytest.mark.parametrize(("count", "few"), [(1, True), (FEW_EXAMPLES - 1, True), (FEW_EXAMPLES, False)])
def test_few_examples_are_told(count: int, few: bool) -> None:
    assert ("DATASET_FEW_EXAMPLES" in told(batch(*ENOUGH[:count]))) is few


def test_no_rows_have_no_warning() -> None:
    found = Tally()
    assert warnings(found, found.repeats()) == []


@pytest.mark.parametrize(("often", "rarely", "imbalanced"), [(10, 1, True), (9, 1, False), (20, 2, True), (19, 2, False)])
def test_labels_are_imbalanced_from_ten_to_one(often: int, rarely: int, imbalanced: bool) -> None:
    rows = [of(USER, more=f', "label": "{label}"') for label in ["many"] * often + ["few"] * rarely]
    assert ("DATASET_LABELS_IMBALANCED" in Checked("\n".join(rows).encode()).warnings) is imbalanced


def test_one_label_is_no_imbalance() -> None:
    assert "DATASET_LABELS_IMBALANCED" not in Checked("\n".join([of(USER, more=', "label": "a"')] * 50).encode()).warnings


def test_rows_that_were_not_compared_are_told() -> None:
    found = Tally(Fingerprints(max_rows=4))
    found.add(batch(*ENOUGH), range(1, len(ENOUGH) + 1))
    (warning,) = [each for each in warnings(found, found.repeats()) if each["reason"] == "DATASET_DUPLICATES_UNKNOWN"]
    assert (warning["count"], "first 4 of 10 rows" in warning["message"]) == (len(ENOUGH) - 4, True)


def test_every_warning_is_complete() -> None:
    rows = [of(USER, ANSWER, more=', "id": 1')] * 3 + [
        of(USER.replace("hi", "HI"), ANSWER),
        of(USER, ANSWER, USER.replace("hi", "")),
    ]
    found = Checked("\n".join(rows).encode()).warnings
    assert found.keys() >= WARNINGS.keys() - {"DATASET_LABELS_IMBALANCED", "DATASET_DUPLICATES_UNKNOWN"}
    for reason, warning in found.items():
        assert warning["hint"] == WARNINGS[reason]
        assert warning["message"][0].islower() or warning["message"][0].isdigit()
        assert warning["count"] > 0
        assert len(warning["lines"]) <= SHOWN_LINES


@pytest.mark.parametrize(("count", "verb"), [(1, "1 of 10 rows has"), (2, "2 of 10 rows have")])
def test_warnings_speak_in_the_singular_and_plural(count: int, verb: str) -> None:
    shapes = [(ASK, SAY)] * count + ENOUGH[count:]
    assert told(batch(*shapes))["DATASET_WITHOUT_SYSTEM"]["message"].startswith(verb)
