"""Scores of one answer against known values and against the plain definition."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.grading import overlap
from services.common.grading.words import normalised, words
from services.trainer.evaluating.json_fields import has_fields, json_field_f1, json_valid

TEXTS = st.text(alphabet="ab c好!", max_size=20)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Paris.\n", "paris"),
        ("PARIS", "paris"),
        ("ｆｕｌｌ　width", "full width"),
        ('"quoted"', "quoted"),
        ("3.5", "3.5"),
        ("two  words", "two words"),
        ('{"b": 1,\n "a": "X"}', '{"a": "X", "b": 1}'),
        ('{"a": 1.0, "b": [2e1]}', '{"a": 1, "b": [20]}'),
        ("{broken", "{broken"),
        ("「はい。」", "はい"),
        ("“Oui…”", "oui"),
        ("ठीक है।", "ठीक है"),
        ("...", ""),
    ],
)
def test_what_counts_of_a_text(text: str, expected: str) -> None:
    assert normalised(text) == expected


def test_words_are_runs_of_letters_and_single_characters_of_chinese() -> None:
    assert words("It's 12 o'clock, 你好!") == ["it", "s", "12", "o", "clock", "你", "好"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("தமிழ்", ["தமிழ்"]),
        ("שָׁלוֹם", ["שָׁלוֹם"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("naïve nai\u0308ve", ["naïve", "naïve"]),
        ("👍 👎👎", ["👍", "👎👎"]),
        (":-)", [":-)"]),
        ("yes 👍", ["yes"]),
        ("", []),
        (" \n", []),
    ],
)
def test_words_of_other_scripts_keep_their_vowels_and_signs_alone_are_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize("metric", [overlap.f1, overlap.bleu, overlap.gleu, overlap.rouge_l], ids=lambda each: each.__name__)
@pytest.mark.parametrize(("answer", "reference"), [("कि", "की"), ("👍", "👎"), ("", "👍"), (":-)", ":-("), ("+", "-")])
def test_texts_that_say_something_else_have_nothing_in_common(metric, answer: str, reference: str) -> None:
    assert (metric(answer, reference), metric(reference, reference)) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("metric", "answer", "reference", "expected"),
    [
        (overlap.f1, "the cat sat", "a cat sat down", 4 / 7),
        (overlap.f1, "cat cat", "cat", 2 / 3),
        (overlap.rouge_l, "police killed the gunman", "police kill the gunman", 0.75),
        (overlap.rouge_l, "the gunman kill police", "police kill the gunman", 0.5),
        (overlap.fuzzy_match, "lewenstein", "levenshtein", 18 / 21),
        (overlap.bleu, "the cat is on the mat", "the cat is on the mat", 1.0),
        # Precisions 5/6, (3+1)/(5+1), (1+1)/(4+1), (0+1)/(3+1); no brevity penalty.
        (overlap.bleu, "the cat sat on the mat", "the cat is on the mat", (5 / 6 * 4 / 6 * 2 / 5 * 1 / 4) ** 0.25),
        # All precisions 1, two of four words.
        (overlap.bleu, "the cat", "the cat sat down", math.exp(1 - 4 / 2)),
        (overlap.bleu, "dog", "cat", 0.0),
        # 1-grams 2, 2-grams 1 of max(3+2+1, 3+2+1).
        (overlap.gleu, "the cat ran", "the cat sat", 3 / 6),
        (overlap.gleu, "the", "the cat", 1 / 3),
    ],
)
def test_known_values(metric, answer: str, reference: str, expected: float) -> None:
    assert metric(answer, reference) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "expected"), [(1, 6 / 8), (2, 4 / 6), (3, 2 / 4), (4, 0.0)])
def test_rouge_by_length(n: int, expected: float) -> None:
    assert overlap.rouge_n("a b c d", "a b c e", n) == pytest.approx(expected)


def test_short_texts_are_compared_by_what_they_have() -> None:
    assert overlap.rouge_n("yes", "yes", 5) == 1.0
    assert overlap.bleu("yes", "yes") == 1.0


@pytest.mark.parametrize("name", sorted(overlap.METRICS))
@given(answer=TEXTS, reference=TEXTS)
@settings(deadline=None, max_examples=60)
def test_every_metric_is_a_share_and_equal_texts_have_all(name: str, answer: str, reference: str) -> None:
    metric = overlap.METRICS[name]
    assert 0.0 <= metric(answer, reference) <= 1.0 + 1e-12
    assert metric(answer, answer) == pytest.approx(1.0)


@given(st.lists(st.integers(0, 3), max_size=12), st.lists(st.integers(0, 3), max_size=12))
@settings(deadline=None)
def test_the_longest_common_subsequence_is_that_of_the_table(first: list[int], second: list[int]) -> None:
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for row, a in enumerate(first, 1):
        for column, b in enumerate(second, 1):
            longer = max(table[row - 1][column], table[row][column - 1])
            table[row][column] = table[row - 1][column - 1] + 1 if a == b else longer
    assert overlap.common_subsequence(first, second) == table[-1][-1]


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}', 1.0),
        ('{"a": 1}', '{"a": 1, "b": 2}', 2 / 3),
        ('{"a": "Yes."}', '{"a": "yes"}', 1.0),
        ('{"a": "1"}', '{"a": 1}', 0.0),
        ('{"a": [1, 2]}', '{"a": [2, 1]}', 1.0),
        ('{"a": {"b": 1}}', '{"a": {"c": 1}}', 0.0),
        ('{"a": {}}', '{"a": {}}', 1.0),
        ('{"a": true}', '{"a": 1}', 0.0),
        ('{"a": 10.0, "b": 1e2, "c": 0.5}', '{"a": 10, "b": 100, "c": 0.5}', 1.0),
        ('{"a": 1e999}', '{"a": 1}', 0.0),
        ("not json", '{"a": 1}', 0.0),
        ('The answer: {"a": 1}', '{"a": 1}', 0.0),
    ],
)
def test_fields_of_json(answer: str, reference: str, expected: float) -> None:
    assert json_field_f1(answer, reference) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("{}", 1), (' {"a": 1}\n', 1), ("null", 1), ("NaN", 0), ("{'a': 1}", 0), ("", 0), ("[" * 100_000, 0)],
)
def test_valid_json(text: str, expected: float) -> None:
    assert json_valid(text) == expected
    assert has_fields('{"a": 1}')
    assert has_fields('[{"name": "f", "arguments": {}}]')
    assert not any(map(has_fields, ("[1]", "[]", '[{"a": 1}, 2]', "words")))
