"""Which rows two datasets share."""

import pytest

from services.storage.tokens.overlaps import count_overlap


def chat(*turns, **fields):
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)], **fields}


def overlap(rows, against):
    found = count_overlap(enumerate(rows, start=1), enumerate(against, start=1))
    return found.same_input_count, found.same_row_count, found.rows


def preference(question, good):
    say = [{"role": "assistant", "content": good}]
    return {"input": chat(question), "preferred_output": say, "non_preferred_output": say}


@pytest.mark.parametrize(
    ("row", "other", "expected"),
    [
        (chat("q", "a"), chat("q", "a"), (1, 1, [1])),
        (chat("q", "a"), chat("q", "b"), (1, 0, [1])),
        (chat("Is it\n on?", "a"), chat("is  it on? ", "b"), (1, 0, [1])),
        (chat("q", "a"), chat("r", "a"), (0, 0, [])),
        (chat("q", "a", "r", "b"), chat("q", "a", "r", "c"), (1, 0, [1])),
        (chat("q", "a", "r", "b"), chat("q", "x", "r", "b"), (0, 0, [])),
        (chat("q", label="x"), chat("q", label="y"), (1, 0, [1])),
        ({"text": "One two."}, {"text": "one  two."}, (1, 0, [1])),
        ({"text": "one"}, {"text": "two"}, (0, 0, [])),
        (chat("q", "a", text="x", input="1"), chat("q", "b", text="y", input={"messages": "2"}), (1, 0, [1])),
        (chat("q", "a", text="x"), chat("r", "a", text="x"), (0, 0, [])),
        ({"text": "One two.", "input": "x"}, {"text": "one  two.", "input": "y"}, (1, 0, [1])),
        (preference("q", "a"), preference("q", "b"), (1, 0, [1])),
        (preference("q", "a"), chat("q", "b"), (1, 0, [1])),
        (
            {"messages": [{"role": "assistant", "content": "a"}]},
            {"messages": [{"role": "assistant", "content": "b"}]},
            (0, 0, []),
        ),
    ],
)
def test_two_rows(row, other, expected):
    assert overlap([row], [other]) == expected


def test_the_order_of_keys_means_nothing():
    assert overlap([{"messages": [{"role": "user", "content": "q"}]}], [{"messages": [{"content": "q", "role": "user"}]}])[1] == 1


def test_weights_and_names_do_not_make_another_input():
    row = chat("q", "a")
    row["messages"][0]["name"] = "Ann"
    assert overlap([row], [chat("q", "b")])[0] == 1


def test_the_first_rows_are_named_and_all_are_counted():
    rows = [chat("other", "a"), *[chat("q", "a")] * 30]
    assert overlap(rows, [chat("q", "a")]) == (30, 30, list(range(2, 22)))
