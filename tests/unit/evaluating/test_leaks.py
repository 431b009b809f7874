"""Rows that a model has learned from: what counts as the same row, and what does not."""

import pytest

from services.trainer.evaluating.leaks import fingerprint, leaked
from services.trainer.evaluating.values import Item


def row(*turns: tuple[str, object], **more: object) -> dict:
    return {"messages": [{"role": role, "content": content} for role, content in turns], **more}


def item(number: int, given: dict) -> Item:
    return Item(number, (), "", given)


ASKED = row(("user", "Where is my parcel?"), ("assistant", "delivery"))


@pytest.mark.parametrize(
    "same",
    [
        row(("user", "where is  my\nparcel? "), ("assistant", "Delivery")),
        row(("user", "Ｗhere is my parcel?"), ("assistant", "delivery")),
        row(("user", "Where is my parcel?"), ("assistant", "delivery"), weight=0.5),
        {"messages": [{"content": turn["content"], "role": turn["role"], "weight": 1} for turn in ASKED["messages"]]},
    ],
    ids=["spaces and case", "wide letters", "further keys", "keys of turns"],
)
def test_the_same_words_are_the_same_row(same: dict) -> None:
    assert fingerprint(same) == fingerprint(ASKED)


@pytest.mark.parametrize(
    "other",
    [
        row(("user", "Where is my parcel?"), ("assistant", "refund")),
        row(("user", "Where is my parcel")),
        row(("user", "Where is my parcel?")),
        row(("system", "Where is my parcel?"), ("assistant", "delivery")),
        row(("assistant", "delivery"), ("user", "Where is my parcel?")),
        row(("system", "Be kind."), ("user", "Where is my parcel?"), ("assistant", "delivery")),
    ],
    ids=["answer", "words", "without the answer", "role", "order", "system"],
)
def test_anything_else_is_another_row(other: dict) -> None:
    assert fingerprint(other) != fingerprint(ASKED)


@pytest.mark.parametrize(
    "given",
    [{}, {"text": 1}, {"messages": "x"}, {"messages": None}, {"input": "x"}, {"input": {}}],
    ids=["empty", "number", "word", "null", "input", "no messages"],
)
def test_what_has_no_words_is_no_row(given: dict) -> None:
    assert fingerprint(given) is None


def test_turns_that_are_no_objects_and_content_that_is_no_text_do_not_break_it() -> None:
    parts = [{"type": "text", "text": "A"}, {"text": "b", "type": "text"}]
    swapped = [{"text": "A", "type": "text"}, {"type": "text", "text": "b"}]
    assert fingerprint(row(("user", parts))) == fingerprint(row(("user", swapped)))
    assert fingerprint(row(("user", None))) != fingerprint(row(("user", "")))
    assert fingerprint({"messages": ["x", 1, {"role": "user", "content": "a"}]}) == fingerprint(row(("user", "a")))


def test_the_border_between_turns_is_part_of_a_row() -> None:
    assert fingerprint(row(("user", "a b"), ("user", "c"))) != fingerprint(row(("user", "a"), ("user", "b c")))


def test_numbers_are_told_in_order_and_each_once() -> None:
    other = row(("user", "other"))
    items = [item(3, ASKED), item(7, other), item(9, ASKED)]
    assert leaked(items, [other, ASKED, ASKED]) == [3, 7, 9]
    assert leaked(items, [ASKED]) == [3, 9]
    assert leaked(items, []) == []
    assert leaked([], [ASKED]) == []


def test_rows_that_say_nothing_leak_nothing() -> None:
    assert leaked([item(1, {"n": "x"})], [{"n": "x"}]) == []


def test_a_text_is_the_same_whatever_its_spaces_and_case() -> None:
    assert leaked([item(1, {"text": "Some  words."}), item(2, {"text": "Others."})], [{"text": "some words. "}]) == [1]


def test_a_preference_is_the_same_when_its_question_is() -> None:
    def pair(question: str, answer: str) -> dict:
        return {"input": row(("user", question)), "preferred_output": row(("assistant", answer))["messages"]}

    assert leaked([item(1, pair("q", "a")), item(2, pair("r", "a"))], [pair("Q", "b")]) == [1]
    # A conversation that has something called input beside it stays one.
    assert fingerprint(ASKED | {"input": {"messages": []}}) == fingerprint(ASKED)


@pytest.mark.parametrize("beside", [{"text": "ticket"}, {"text": "ticket", "input": "x"}, {"preferred_output": []}])
def test_what_a_conversation_has_beside_it_says_nothing(beside: dict) -> None:
    assert fingerprint(ASKED | beside) == fingerprint(ASKED)
    pair = {"input": row(("user", "q")), "preferred_output": row(("assistant", "a"))["messages"]}
    assert fingerprint(pair | {"text": "ticket"}) == fingerprint(pair)


@pytest.mark.parametrize("label", ["Delivery", 7])
def test_a_label_is_what_the_assistant_would_say(label: object) -> None:
    labeled = row(("user", "Where is my parcel?"), label=label)
    chat = row(("user", "where is my parcel?"), ("assistant", str(label).upper()))
    other = row(("user", "Where is my parcel?"), ("assistant", "something else"))
    assert leaked([item(1, labeled)], [chat]) == leaked([item(1, chat)], [labeled]) == [1]
    assert leaked([item(1, labeled)], [other]) == []
    assert leaked([item(1, labeled)], [row(("user", "Where is my parcel?"), label="refund")]) == [1]


def test_a_text_in_parts_and_a_system_turn_by_its_other_name_are_the_same() -> None:
    parts = [{"type": "text", "text": "Where is "}, {"type": "text", "text": "my parcel?"}]
    assert fingerprint(row(("user", parts), ("assistant", "delivery"))) == fingerprint(ASKED)
    assert fingerprint(row(("developer", "Be kind."))) == fingerprint(row(("system", "Be kind.")))


def test_training_data_is_read_once_and_not_kept() -> None:
    seen = []

    def stream():
        for number in range(5):
            seen.append(number)
            yield row(("user", f"{number}"))

    assert leaked([item(1, row(("user", "3")))], stream()) == [1]
    assert seen == [0, 1, 2, 3, 4]
