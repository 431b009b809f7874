"""Rows of other programs as ours, shape by shape."""

import pytest

from tunesmith.convert import alpaca, openai_rows, prompt_completion, sharegpt, trl_preference
from tunesmith.convert.columns import Columns
from tunesmith.convert.records import Unconvertible, optional_text, with_system
from tunesmith.convert.shapes import SHAPES, shape_for
from tunesmith.errors import InvalidArgument


def turns(row):
    return [(message["role"], message["content"]) for message in row["messages"]]


class TestAlpaca:
    def test_instruction_and_input_are_the_users_words(self):
        row = {"instruction": "Translate", "input": "Haus", "output": "house"}
        assert turns(alpaca.to_chat(row)) == [("user", "Translate\n\nHaus"), ("assistant", "house")]

    @pytest.mark.parametrize("further", ["", "  ", None])
    def test_an_empty_input_adds_nothing(self, further):
        row = {"instruction": "Hi", "input": further, "output": "Hello"}
        assert turns(alpaca.to_chat(row)) == [("user", "Hi"), ("assistant", "Hello")]

    def test_system_and_history_come_first(self):
        row = {"instruction": "c", "output": "d", "system": "s", "history": [["a", "b"]]}
        assert turns(alpaca.to_chat(row)) == [
            ("system", "s"),
            ("user", "a"),
            ("assistant", "b"),
            ("user", "c"),
            ("assistant", "d"),
        ]

    def test_dollys_names_are_known(self):
        row = {"instruction": "q", "context": "c", "response": "a"}
        assert turns(alpaca.to_chat(row)) == [("user", "q\n\nc"), ("assistant", "a")]

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            ({"instruction": "", "output": "x"}, "instruction is empty"),
            ({"instruction": "x", "output": " "}, "output is empty"),
            ({"output": "x"}, "instruction is missing"),
            ({"instruction": "x", "output": ["y"]}, "output is not a text"),
            ({"instruction": "x", "output": "y", "history": [["only one"]]}, "history is not a list"),
        ],
    )
    def test_what_is_no_example_says_why(self, row, reason):
        with pytest.raises(Unconvertible, match=reason):
            alpaca.to_chat(row)


class TestShareGpt:
    def test_speakers_become_roles(self):
        row = {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "system": "s"}
        assert turns(sharegpt.to_chat(row)) == [("system", "s"), ("user", "a"), ("assistant", "b")]

    def test_a_system_turn_is_not_doubled(self):
        row = {"conversations": [{"from": "system", "value": "t"}, {"from": "gpt", "value": "b"}], "system": "s"}
        assert turns(sharegpt.to_chat(row)) == [("system", "t"), ("assistant", "b")]

    @pytest.mark.parametrize(
        ("conversations", "reason"),
        [
            (None, "not a list"),
            ([], "not a list"),
            (["x"], r"conversations\[0\] is not an object"),
            ([{"from": "observation", "value": "x"}], "there is no role for 'observation'"),
            ([{"from": ["x"], "value": "x"}], "there is no role"),
            ([{"from": "human", "value": ""}], r"conversations\[0\] has no text"),
            ([{"from": "human", "value": "x"}], "no turn is the assistant's"),
        ],
    )
    def test_what_is_no_conversation_says_where(self, conversations, reason):
        with pytest.raises(Unconvertible, match=reason):
            sharegpt.to_chat({"conversations": conversations})


class TestPromptAndCompletion:
    def test_texts_stay_as_they_are(self):
        row = {"prompt": "2+2 ->", "completion": " 4"}
        assert turns(prompt_completion.to_chat(row)) == [("user", "2+2 ->"), ("assistant", " 4")]
        assert prompt_completion.to_text(row) == {"text": "2+2 -> 4"}

    def test_messages_stay_messages(self):
        prompt, completion = [{"role": "user", "content": "a"}], [{"role": "assistant", "content": "b"}]
        assert prompt_completion.to_chat({"prompt": prompt, "completion": completion}) == {"messages": prompt + completion}

    @pytest.mark.parametrize("value", [[], ["x"], [{"content": "x"}], {}])
    def test_anything_else_is_refused(self, value):
        with pytest.raises(Unconvertible, match="prompt is not"):
            prompt_completion.to_chat({"prompt": value, "completion": "x"})


USER, GOOD, BAD = ({"role": r, "content": c} for r, c in (("user", "q"), ("assistant", "good"), ("assistant", "bad")))
PAIR = {"input": {"messages": [USER]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]}


class TestTrlPreference:
    @pytest.mark.parametrize(
        "row",
        [
            {"prompt": "q", "chosen": "good", "rejected": "bad"},
            {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
            {"prompt": "q", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
            {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        ],
    )
    def test_every_way_to_write_a_pair_is_the_same_pair(self, row):
        assert trl_preference.to_preference(row) == PAIR
        assert trl_preference.to_chat(row) == {"messages": [USER, GOOD]}

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            ({"prompt": "q", "chosen": "same", "rejected": "same"}, "do not differ"),
            ({"chosen": "good", "rejected": "bad"}, "there is no prompt"),
            ({"prompt": "q", "chosen": "", "rejected": "bad"}, "chosen is empty"),
        ],
    )
    def test_what_is_no_pair_says_why(self, row, reason):
        with pytest.raises(Unconvertible, match=reason):
            trl_preference.to_preference(row)


class TestColumns:
    def test_named_columns_become_a_conversation(self):
        columns = Columns(input="subject", output="team", system="role")
        row = {"subject": "Broken", "team": 7, "role": "Sort."}
        assert turns(columns.to_chat(row)) == [("system", "Sort."), ("user", "Broken"), ("assistant", "7")]
        assert columns.to_text(row) == {"text": "Broken7"}

    def test_a_label_is_a_text(self):
        row = Columns(text="t", label="l").to_labeled({"t": "x", "l": 3})
        assert (turns(row), row["label"]) == ([("user", "x")], "3")

    def test_a_truth_value_is_not_a_text(self):
        with pytest.raises(Unconvertible):
            optional_text({"a": True}, "a")


def test_nulls_that_parquet_adds_are_left_out():
    row = {"messages": [{"role": "user", "content": "x", "name": None}], "tools": None}
    assert openai_rows.to_chat(row) == {"messages": [{"role": "user", "content": "x"}]}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": [USER]}, {"messages": [{"role": "system", "content": "s"}, USER]}),
        ({"messages": [{"role": "developer", "content": "d"}]}, {"messages": [{"role": "developer", "content": "d"}]}),
        ({"text": "x"}, {"text": "x"}),
        (PAIR, {**PAIR, "input": {"messages": [{"role": "system", "content": "s"}, USER]}}),
    ],
)
def test_a_system_message_is_put_where_there_is_none(row, expected):
    assert with_system(row, "s") == expected


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        ("messages", "chat"),
        ("conversations system", "sharegpt"),
        ("instruction input output", "alpaca"),
        ("instruction context response", "alpaca"),
        ("prompt completion", "prompt-completion"),
        ("prompt chosen rejected", "trl-preference"),
        ("input preferred_output non_preferred_output", "preference"),
        ("question answer", "columns"),
        ("text", "text"),
    ],
)
def test_shapes_are_told_by_their_columns(columns, name):
    assert shape_for(dict.fromkeys(columns.split(), "x"), "", Columns()).name == name


def test_columns_that_are_named_go_before_what_is_recognised():
    assert shape_for({"instruction": "", "output": ""}, "", Columns(input="a", output="b")).name == "columns"


@pytest.mark.parametrize(("row", "said"), [({"a": 1, "b": 2}, "its columns are a, b"), ([1], "not objects")])
def test_an_unknown_shape_names_what_is_there(row, said):
    with pytest.raises(InvalidArgument, match=said) as caught:
        shape_for(row, "", Columns())
    assert caught.value.reason == "FORMAT_UNKNOWN"


def test_every_shape_can_be_asked_for_by_name():
    assert [shape_for({}, shape.name, Columns()) for shape in SHAPES] == list(SHAPES)
