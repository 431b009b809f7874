"""What is counted over usable rows, and what deserves a warning."""

import json
import pathlib
import random

import pytest
from unit.storage.checking.checks import ANSWER, GOOD, USER, Checked, of

from services.common.dataset_reasons import WARNINGS
from services.storage.checking.fingerprints import Fingerprints
from services.storage.checking.tally import Tally

SYSTEM = '{"role": "system", "content": "Be kind."}'
SILENT = '{"role": "assistant", "content": "x", "weight": 0}'


def said(question: str, answer: str) -> str:
    return json.dumps({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]})


def lines(*rows: str) -> bytes:
    return "".join(row + "\n" for row in rows).encode()


def test_everything_in_the_rows_is_counted() -> None:
    checked = Checked(lines(of(SYSTEM, USER, ANSWER), of(USER, SILENT, USER, ANSWER, USER), of(SYSTEM, USER, ANSWER), "{}"))
    assert checked.statistics == {
        "example_count": 3,
        "message_count": 11,
        "messages_by_role": {"system": 2, "user": 5, "assistant": 4},
        "assistant_character_count": 6,
        "without_system_count": 1,
        "duplicate_count": 1,
        "near_duplicate_count": 0,
        "last_not_assistant_count": 1,
        "empty_content_count": 0,
        "with_tools_count": 0,
        "examples_by_turns": {1: 2, 2: 1},
        "labels": [],
        "label_count": 0,
    }


def test_ten_turns_stand_for_ten_and_more() -> None:
    checked = Checked(lines(*(of(*[USER, ANSWER] * count) for count in (9, 10, 11, 40))))
    assert checked.statistics["examples_by_turns"] == {9: 1, 10: 3}


def test_the_outputs_of_a_preference_row_are_one_turn_and_both_learned() -> None:
    other = ANSWER.replace("yo", "nope")
    row = f'{{"input": {{"messages": [{USER}]}}, "preferred_output": [{ANSWER}], "non_preferred_output": [{other}]}}'
    for rows in ([row], [row] * 20):
        statistics = Checked(lines(*rows)).statistics
        assert statistics["examples_by_turns"] == {1: len(rows)}
        assert statistics["assistant_character_count"] == 6 * len(rows)


def test_formats_are_told() -> None:
    assert Checked(lines(GOOD)).report["format"] == "CHAT"
    assert Checked(lines('{"text": "x"}')).report["format"] == "TEXT"
    assert Checked(lines(of(USER, more=', "label": 3'))).report["format"] == "LABELED"
    assert Checked(b"{}\n" + lines('{"text": "x"}')).report["format"] == "TEXT"
    assert Checked(b"").report["format"] == "FORMAT_UNSPECIFIED"


@pytest.mark.parametrize("count", [5, 500])
def test_duplicates_are_found_whatever_the_layout(count: int) -> None:
    rows = [said(f"question {chr(97 + n % 26) * (n + 1)}", "yes") for n in range(count)]
    same = json.dumps(json.loads(rows[1]), separators=(",", ":"), sort_keys=True)
    statistics = Checked(lines(*rows, same, rows[1] + " ", rows[2])).statistics
    assert (statistics["duplicate_count"], statistics["near_duplicate_count"]) == (3, 0)


def test_near_duplicates_differ_in_case_digits_punctuation_and_blanks_only() -> None:
    rows = [said("Where is room 12?", "Left."), said("where is  ROOM 7", "left"), said("Where is the room?", "Left.")]
    checked = Checked(lines(*rows, rows[0], rows[1]))
    assert (checked.statistics["duplicate_count"], checked.statistics["near_duplicate_count"]) == (2, 1)
    assert checked.warnings["DATASET_DUPLICATES"]["lines"] == [4, 5]
    assert checked.warnings["DATASET_NEAR_DUPLICATES"]["lines"] == [2]


def test_texts_that_hold_the_separators_are_told_apart() -> None:
    rows = [said("a\x1eb", "c"), said("a", "b\x1ec"), said("a\x1fb", "c"), said("a\x1eb", "c")]
    for padding in ([], [said("other", "row")]):
        statistics = Checked(lines(*padding, *rows)).statistics
        assert (statistics["duplicate_count"], statistics["near_duplicate_count"]) == (1, 0)


def test_rows_are_compared_exactly_however_many_there_are() -> None:
    chance = random.Random(5)
    rows = [
        said(f"question {chance.randbytes(6).hex().translate(str.maketrans('0123456789', 'ghijklmnop'))}", "yes")
        for _ in range(40_000)
    ]
    again = [chance.choice(rows) for _ in range(30_000)]
    checked = Checked(lines(*rows, *again), cut=2**16)
    assert checked.statistics["duplicate_count"] == 70_000 - len(set(rows))
    seen, first = set(), []
    for number, row in enumerate([*rows, *again], start=1):
        if row in seen:
            first.append(number)
        seen.add(row)
    assert checked.warnings["DATASET_DUPLICATES"]["lines"] == first[:5]


def test_beyond_the_bound_rows_are_not_compared_and_the_report_says_so() -> None:
    checked = Checked(lines(*[GOOD] * 30), tally=Tally(Fingerprints(max_rows=20)), cut=len(GOOD) + 1)
    assert checked.statistics["duplicate_count"] == 19
    assert "first 20 of 30 rows" in checked.warnings["DATASET_DUPLICATES_UNKNOWN"]["message"]


def test_labels_of_labeled_rows_are_counted() -> None:
    rows = [of(USER, more=f', "label": "{label}"') for label in "aaab"] + [of(USER, more=', "label": 7')]
    statistics = Checked(lines(*rows)).statistics
    assert statistics["labels"] == [
        {"label": "a", "example_count": 3},
        {"label": "7", "example_count": 1},
        {"label": "b", "example_count": 1},
    ]
    assert statistics["label_count"] == 3
    assert statistics["assistant_character_count"] == 0


def test_at_most_a_hundred_labels_are_listed_and_all_are_counted() -> None:
    statistics = Checked(lines(*(of(USER, more=f', "label": {n}') for n in range(150)))).statistics
    assert (len(statistics["labels"]), statistics["label_count"]) == (100, 150)


def test_answers_that_repeat_are_labels() -> None:
    rows = [said(f"question {n}", "yes" if n % 12 else "no") for n in range(240)]
    checked = Checked(lines(*rows))
    assert checked.statistics["labels"] == [{"label": "yes", "example_count": 220}, {"label": "no", "example_count": 20}]
    assert "'yes' has 220 rows, label 'no' has 20" in checked.warnings["DATASET_LABELS_IMBALANCED"]["message"]


@pytest.mark.parametrize(
    "rows",
    [
        [said("q", "yes")] * 19,
        [said("q", str(n // 4)) for n in range(100)],
        [said("q", "x" * 201)] * 100,
        [said("q", str(n)) for n in range(201)] * 6,
        [said("q", "yes")] * 100 + [of(USER, ANSWER, USER)],
    ],
    ids=["few rows", "few repeats", "long", "many", "not all end so"],
)
def test_answers_that_are_no_labels(rows: list[str]) -> None:
    statistics = Checked(lines(*rows)).statistics
    assert (statistics["labels"], statistics["label_count"]) == ([], 0)


def test_warnings_name_the_first_five_lines() -> None:
    empty = of('{"role": "user", "content": " "}', ANSWER)
    checked = Checked(lines(*[of(SYSTEM, USER, ANSWER)] * 3, *[of(USER, ANSWER, USER)] * 7, empty))
    assert checked.report["valid"]
    assert checked.warnings["DATASET_LAST_NOT_ASSISTANT"]["count"] == 7
    assert checked.warnings["DATASET_LAST_NOT_ASSISTANT"]["lines"] == [4, 5, 6, 7, 8]
    assert checked.warnings["DATASET_EMPTY_CONTENT"]["lines"] == [11]
    assert checked.warnings["DATASET_WITHOUT_SYSTEM"]["count"] == 8


def test_few_examples_and_keys_that_train_nothing_are_told() -> None:
    checked = Checked(lines(of(USER, ANSWER, more=', "id": 5, "source": "x"')))
    assert checked.warnings["DATASET_FEW_EXAMPLES"]["message"] == "there is 1 row; fine-tuning begins to help at 10"
    assert "'id', 'source'" in checked.warnings["DATASET_KEYS_IGNORED"]["message"]
    assert checked.warnings["DATASET_KEYS_IGNORED"]["lines"] == [1]


def test_a_good_file_has_no_warning() -> None:
    rows = [of(SYSTEM, json.dumps({"role": "user", "content": "q" * n}), ANSWER.replace("yo", "a" * n)) for n in range(1, 30)]
    assert Checked(lines(*rows)).warnings == {}


def test_every_warning_in_the_catalogue_has_a_test() -> None:
    text = pathlib.Path(__file__).read_text(encoding="utf-8")
    assert [reason for reason in WARNINGS if f'"{reason}"' not in text] == []
