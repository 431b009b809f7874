"""From the rows of a dataset to what models are asked."""

from pathlib import Path

import pytest

from services.trainer.answering.rows import question_and_answer, question_and_worse_answer, read_items, to_answer
from tests.unit.answering.scripted_runs import chat, chat_and, told, write


@pytest.mark.parametrize(
    ("row", "asked", "reference"),
    [
        (chat("q", "a"), [("system", "Be brief."), ("user", "q")], "a"),
        (chat("q", label=3), [("system", "Be brief."), ("user", "q")], "3"),
        (
            {"messages": [*chat("q", "a")["messages"], {"role": "user", "content": "later"}]},
            [("system", "Be brief."), ("user", "q")],
            "a",
        ),
        (
            {"messages": [{"role": "developer", "content": "d"}, *chat("q", "a")["messages"][1:]]},
            [("system", "d"), ("user", "q")],
            "a",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]},
            [("user", "ab")],
            "",
        ),
        (
            {
                "input": {"messages": chat("q")["messages"]},
                "preferred_output": [{"role": "assistant", "content": "good"}],
                "non_preferred_output": [{"role": "assistant", "content": "bad"}],
            },
            [("system", "Be brief."), ("user", "q")],
            "good",
        ),
        (
            {
                "text": "pair 7",
                "input": {"messages": chat("q")["messages"]},
                "preferred_output": [{"role": "assistant", "content": "good"}],
                "non_preferred_output": [{"role": "assistant", "content": "bad"}],
            },
            [("system", "Be brief."), ("user", "q")],
            "good",
        ),
        (
            chat("q", "a", input="5", preferred_output="x", non_preferred_output="y"),
            [("system", "Be brief."), ("user", "q")],
            "a",
        ),
    ],
    ids=["chat", "labeled", "later turn", "developer", "parts", "preference", "text beside a preference", "keys of its own"],
)
def test_rows_to_questions_with_a_known_answer(tmp_path: Path, row, asked, reference: str) -> None:
    write(tmp_path / "d", [row])
    (item,) = read_items(tmp_path / "d", question_and_answer, most=None, system="")
    assert (told(item.messages), item.reference, item.prompt) == (asked, reference, asked[-1][1])


def test_a_preference_is_also_a_question_with_the_answer_that_is_worse(tmp_path: Path) -> None:
    worse = [
        {"role": "assistant", "content": "first"},
        {"role": "user", "content": "and?"},
        {"role": "assistant", "content": "bad"},
    ]
    row = {"input": {"messages": chat("q")["messages"]}, "preferred_output": chat("q", "good")["messages"][-1:]}
    write(tmp_path / "d", [row | {"non_preferred_output": worse}])
    (item,) = read_items(tmp_path / "d", question_and_worse_answer, most=None, system="Other.")
    asked = [("system", "Other."), ("user", "q"), ("assistant", "first"), ("user", "and?")]
    assert (told(item.messages), item.reference) == (asked, "bad")


@pytest.mark.parametrize("system", ["", "Be brief."], ids=["plain", "system"])
def test_a_text_asks_nothing_and_is_known(tmp_path: Path, system: str) -> None:
    write(tmp_path / "d", [{"text": "Once upon a time"}])
    (item,) = read_items(tmp_path / "d", question_and_answer, most=None, system=system)
    assert (item.messages, item.reference, item.prompt) == ((), "Once upon a time", "")


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        (chat("q", "a"), ["q"]),
        (chat("q"), ["q"]),
        (chat("q", label="x"), ["q"]),
        (chat_and("q", "a", {"role": "user", "content": "more"}), ["q", "a", "more"]),
        ({"text": "annotate me"}, ["annotate me"]),
        (chat("q", "a", text="ticket 7"), ["q"]),
        (chat("q", label="x", text=7), ["q"]),
    ],
    ids=["answered", "open", "labeled", "goes on", "text", "text beside it", "number beside it"],
)
def test_rows_to_what_a_generation_answers(tmp_path: Path, row, asked: list[str]) -> None:
    write(tmp_path / "d", [row])
    (item,) = read_items(tmp_path / "d", to_answer, most=None, system="")
    assert [text for role, text in told(item.messages) if role != "system"] == asked


def test_a_system_prompt_takes_the_place_of_the_rows_own(tmp_path: Path) -> None:
    write(tmp_path / "d", [chat("q", "a"), {"text": "t"}])
    first, second = read_items(tmp_path / "d", to_answer, most=None, system="Mine.")
    assert told(first.messages) == [("system", "Mine."), ("user", "q")]
    assert told(second.messages) == [("system", "Mine."), ("user", "t")]


def test_only_the_first_rows(tmp_path: Path, data: Path) -> None:
    assert [item.number for item in read_items(data, to_answer, most=3, system="")] == [1, 2, 3]
