"""A conversation at a terminal, where somebody can answer a failure by another question."""

import io
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tunesmith.cli.conversations import converse
from tunesmith.errors import TunesmithError
from tunesmith.v1.inference_service_pb2 import StreamChatResponse


class Terminal(io.StringIO):
    """Lines that somebody types."""

    def isatty(self) -> bool:
        return True


class Models:
    """Answers with `answers` one after the other; None = it cannot."""

    def __init__(self, *answers: str | None) -> None:
        self._answers = list(answers)
        self.asked: list[list[tuple[str, str]]] = []

    def stream_chat(self, model: str, turns: Any, system: Any, **sampling: Any) -> Iterator[StreamChatResponse]:
        self.asked.append([(turn["role"], turn["content"]) for turn in turns])
        answer = self._answers.pop(0)
        if answer is None:
            raise TunesmithError("the conversation is too long", reason="CONTEXT_LENGTH_EXCEEDED")
        yield StreamChatResponse(delta=answer)


def test_a_question_that_cannot_be_answered_is_forgotten(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("one\ntwo\nthree\n"))
    models = Models("1", None, "3")
    converse(models, ["tiny"], "", {})  # type: ignore[arg-type]
    assert models.asked[-1] == [("user", "one"), ("assistant", "1"), ("user", "three")]
    shown = capsys.readouterr()
    assert shown.out == "1\n3\n"
    assert "error[CONTEXT_LENGTH_EXCEEDED]: the conversation is too long" in shown.err


@pytest.mark.parametrize(
    "broken", [TunesmithError("it crashed", reason="ENGINE_CRASHED"), KeyboardInterrupt()], ids=["error", "Ctrl-C"]
)
def test_a_line_that_breaks_off_is_ended_before_anything_else_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, broken: BaseException
) -> None:
    class Breaking:
        """Fails in the middle of an answer."""

        def stream_chat(self, *_: Any, **__: Any) -> Iterator[StreamChatResponse]:
            yield StreamChatResponse(delta="once upon")
            raise broken

    monkeypatch.setattr(sys, "stdin", io.StringIO("one\n"))
    with pytest.raises(type(broken)):
        converse(Breaking(), ["tiny"], "", {})  # type: ignore[arg-type]
    assert capsys.readouterr().out == "once upon\n"


def test_an_answer_that_is_empty_is_a_turn_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("one\ntwo\n"))
    models = Models("", "2")
    converse(models, ["tiny"], "", {})  # type: ignore[arg-type]
    assert models.asked[-1] == [("user", "one"), ("assistant", ""), ("user", "two")]


def test_where_questions_come_from_a_file_a_failure_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\ntwo\n"))
    models = Models(None, "2")
    with pytest.raises(TunesmithError):
        converse(models, ["tiny"], "", {})  # type: ignore[arg-type]
    assert len(models.asked) == 1
