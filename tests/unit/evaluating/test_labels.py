"""Which known answers are labels, and what is confused with what."""

import pytest

from services.trainer.evaluating.labels import are_labels, confusion


def rows_of(*labels: str, each: int = 2) -> list[str]:
    return [label for label in labels for _ in range(each)]


@pytest.mark.parametrize(
    ("references", "expected"),
    [
        (rows_of("a", "b"), True),
        (rows_of("a"), False),
        (rows_of(*(f"l{n}" for n in range(50))), True),
        (rows_of(*(f"l{n}" for n in range(51))), False),
        (rows_of("a", "b", "c", each=1), False),
        ([*rows_of("a", "b"), "c"], False),
        ([*rows_of("a", "b"), "c", "a"], True),
        (rows_of("x" * 80, "b"), True),
        (rows_of("x" * 81, "b"), False),
        (rows_of("one two three four five six", "b"), True),
        (rows_of("one two three four five six seven", "b"), False),
        (rows_of("账户余额查询问题", "退款"), True),
        (rows_of("lost-or-stolen-card-of-another-bank", "b"), True),
        (rows_of("...", "b"), False),
        (rows_of("Refund", "refund.", '"REFUND"'), False),
    ],
    ids=[
        *("two", "only one", "fifty", "too many", "each once", "less than twice on average", "twice on average"),
        *("longest", "too long", "most words", "too many words", "Chinese", "hyphens", "nothing is no label", "spellings of one"),
    ],
)
def test_labels_are_few_short_and_repeated(references: list[str], expected: bool) -> None:
    assert are_labels(references) is expected


def counts(answers: list[str | None], references: list[str]) -> dict[tuple[str, str], int]:
    return {(known, said): count for known, said, count in confusion(answers, references).counts}


def test_the_first_spelling_is_shown_and_others_are_the_same() -> None:
    found = confusion(["YES!", " no "], ["Yes", "No"])
    assert found.labels == ("No", "Yes")
    assert found.counts == (("No", "No", 1), ("Yes", "Yes", 1))
    assert found.macro_f1 == 1.0


def test_what_is_none_of_the_labels_and_what_was_not_answered_are_nothing() -> None:
    assert counts(["perhaps", None, "a"], ["a", "b", "a"]) == {("a", ""): 1, ("b", ""): 1, ("a", "a"): 1}


def test_an_answer_that_holds_a_label_is_not_the_label() -> None:
    assert counts(["it is a"], ["a"]) == {("a", ""): 1}


def test_each_label_counts_alike_however_rare_it_is() -> None:
    # 98 of 100 rows are right, but nothing of the rare label is.
    found = confusion(["often"] * 100, [*["often"] * 98, "rare", "rare"])
    assert found.macro_f1 == pytest.approx((2 * 98 / 198 + 0) / 2)


def test_f1_is_that_of_precision_and_recall() -> None:
    known = ["a"] * 6 + ["b"] * 4
    said = ["a"] * 4 + ["b"] * 2 + ["b"] * 3 + ["a"]
    precision, recall = (4 / 5, 3 / 5), (4 / 6, 3 / 4)
    expected = [2 * p * r / (p + r) for p, r in zip(precision, recall, strict=True)]
    assert confusion(said, known).macro_f1 == pytest.approx(sum(expected) / 2)


def test_answers_and_known_answers_belong_together() -> None:
    with pytest.raises(ValueError, match="zip"):
        confusion(["a"], ["a", "b"])


def test_counts_add_up_to_the_rows_and_are_in_order() -> None:
    known, said = ["b", "a", "c"] * 5, ["a", "b", "x"] * 5
    found = confusion(said, known)
    assert sum(count for *_, count in found.counts) == 15
    assert list(found.counts) == sorted(found.counts)
    assert found.labels == ("a", "b", "c")
