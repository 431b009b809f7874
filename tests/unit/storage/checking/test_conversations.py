"""Counting many conversations at once says what counting each alone says, and doubts whatever is not certain."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.storage.checking.conversations import Message, count_chats, count_conversations
from services.storage.checking.doubt import Doubt
from services.storage.checking.example import SILENT, Format, counted

contents = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
messages_of = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant"]), "content": contents},
    optional={"name": contents},
).map(lambda message: {**message, "content": message["content"] or "x"} if message["role"] == "assistant" else message)
ASK, SAY = {"role": "user", "content": "q"}, {"role": "assistant", "content": "abc"}


def decoded(*conversations: list[dict[str, Any]]) -> tuple[list[list[Message]], int]:
    """The conversations, and the double quotes of rows that hold nothing else."""
    rows = [json.dumps({"messages": messages}, ensure_ascii=False) for messages in conversations]
    found = msgspec.json.decode(json.dumps([*conversations]), type=list[list[Message]])
    return found, sum(row.count('"') for row in rows)


@given(st.lists(st.lists(messages_of, min_size=1, max_size=4), min_size=1, max_size=6))
def test_a_batch_says_what_its_messages_say(conversations: list[list[dict[str, Any]]]) -> None:
    rows, quotes = decoded(*conversations)
    batch = count_conversations(Format.CHAT, rows, quotes, strings=1)
    assert list(batch.shapes) == [tuple(message["role"] for message in messages) for messages in conversations]
    assert list(batch.texts) == ["\x1f".join(message["content"] for message in messages) for messages in conversations]
    assert list(batch.endings) == [messages[-1]["content"] for messages in conversations]
    empty = [sum(not message["content"].strip() for message in messages) for messages in conversations]
    assert list(batch.empty_contents or [0] * len(rows)) == empty
    said = [message for messages in conversations for message in messages if message["role"] == "assistant"]
    assert batch.learned_characters == sum(len(message["content"]) for message in said)


@given(st.lists(st.lists(messages_of, min_size=1, max_size=3), min_size=1, max_size=4), st.sampled_from([1, 2, 4]))
def test_quotes_that_nobody_accounts_for_are_doubted(conversations: list[list[dict[str, Any]]], further: int) -> None:
    rows, quotes = decoded(*conversations)
    with pytest.raises(Doubt):
        count_conversations(Format.CHAT, rows, quotes + further, strings=1)


def test_weights_make_turns_silent_and_teach_nothing() -> None:
    conversation = [ASK, {**SAY, "weight": 0}, ASK, {**SAY, "weight": 1}, {**SAY, "content": "de"}]
    rows, quotes = decoded(conversation)
    batch = count_conversations(Format.CHAT, rows, quotes, strings=1)
    assert batch.shapes == [("user", SILENT, "user", "assistant", "assistant")]
    assert batch.learned_characters == len("abc" + "de")


def test_the_weight_of_another_role_is_doubted() -> None:
    rows, quotes = decoded([{**ASK, "weight": 1}, SAY])
    with pytest.raises(Doubt):
        count_conversations(Format.CHAT, rows, quotes, strings=1)


@pytest.mark.parametrize("conversation", [[SAY, ASK], [ASK], [ASK, {**SAY, "weight": 0}], [ASK, {**SAY, "content": ""}], [SAY]])
def test_a_chat_that_teaches_nothing_is_doubted(conversation: list[dict[str, Any]]) -> None:
    rows, quotes = decoded([ASK, SAY], conversation)
    with pytest.raises(Doubt):
        count_chats(rows, quotes)


def test_a_chat_may_be_counted_without_its_quotes() -> None:
    rows, quotes = decoded([ASK, SAY], [ASK, SAY, {**ASK, "name": 'b"ob'}, {**SAY, "weight": 0}])
    assert count_chats(rows) == count_chats(rows, quotes)


def test_labels_end_the_texts_and_nothing_is_learned_of_the_messages() -> None:
    rows, quotes = decoded([ASK], [ASK, SAY])
    labeled = quotes + 2 * 2 * 2
    batch = count_conversations(Format.LABELED, rows, labeled, strings=3, labels=["a", "b"])
    assert (batch.texts, batch.endings, batch.learned_characters) == (["q\x1fa", "q\x1fabc\x1fb"], ["a", "b"], 0)


def test_of_preference_rows_the_last_two_are_learned() -> None:
    rows, quotes = decoded([ASK, SAY, {**SAY, "content": "de"}], [ASK, SAY, ASK, SAY, {**SAY, "content": "f"}])
    batch = count_conversations(Format.PREFERENCE, rows, quotes, strings=1)
    assert batch.learned_characters == len("abc" + "de" + "abc" + "f")
    assert batch.endings == ["", ""]


@given(st.lists(st.sampled_from([("user", "assistant"), ("system", "user", "assistant"), ()]), min_size=1))
def test_shapes_are_counted(shapes: list[tuple[str, ...]]) -> None:
    assert dict(counted(shapes)) == {shape: shapes.count(shape) for shape in shapes}
