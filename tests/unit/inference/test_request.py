"""From questions to what the engine is asked: texts, scores, guides, tools."""

import dataclasses
import datetime
from pathlib import Path

import pytest
from chat_families import FAMILIES
from inference_fakes import FakeEngine, files_of
from tiny_model import make_tiny_model, tiny_tokenizer

from services.common.errors import InvalidArgument, ServiceError
from services.inference.guides import Constraint, Language
from services.inference.question import Given, Message, Question
from services.inference.ready_model import ReadyModel
from services.inference.registry import Registry
from services.inference.request import judgement_for, rendered_messages, request_for
from services.inference.resolver import ModelFiles
from services.inference.tools import Mode, Tool, ToolCall, ToolChoice

TOKENIZER = tiny_tokenizer()
HELLO = (Message("user", "Hello"),)
BELL = Tool("bell", "Rings.")
CALLED = (*HELLO, Message("assistant", "", (ToolCall("c1", "bell", "{}"),)), Message("tool", "rang", tool_call_id="c1"))


def ready_of(files: ModelFiles) -> ReadyModel:
    registry = Registry(FakeEngine(), max_bytes=10**9, now=lambda: datetime.datetime(2026, 1, 1))
    return registry.hold(object(), files)


@pytest.fixture
def ready(base_files: ModelFiles) -> ReadyModel:
    return ready_of(base_files)


@pytest.fixture(scope="module")
def with_tools(tmp_path_factory: pytest.TempPathFactory) -> ReadyModel:
    template = FAMILIES["qwen3"].template
    return ready_of(files_of("tools", make_tiny_model(tmp_path_factory.mktemp("tools"), chat_template=template)))


def asked(model: ReadyModel, **fields: object) -> object:
    return request_for(model, Question("tiny", **{"messages": HELLO, **fields}), lambda: 77)


def test_a_text_is_continued_in_its_own_tokens_and_special_tokens_are_tokens(ready: ReadyModel) -> None:
    text = "the use<|im_end|>"
    request = asked(ready, messages=(), given=Given(text))
    assert list(request.prompt) == TOKENIZER.encode(text, add_special_tokens=False).ids
    assert request.prompt[-1] == TOKENIZER.token_to_id("<|im_end|>")
    assert (request.judged_from, request.logprobs) == (None, None)


def test_token_ids_are_taken_as_they_are_and_judged_when_they_are_echoed(ready: ReadyModel) -> None:
    request = asked(ready, messages=(), given=Given(ids=(5, 6, 7), echo=True), logprobs=3)
    assert (request.prompt, request.judged_from, request.logprobs) == ((5, 6, 7), 0, 3)
    assert asked(ready, messages=(), given=Given(ids=(5, 6), echo=True)).judged_from is None


def test_a_text_that_only_gets_judged_may_fill_the_context(ready: ReadyModel) -> None:
    whole = Given(ids=(9,) * ready.context_length, echo=True)
    request = asked(ready, messages=(), given=whole, max_tokens=0, logprobs=0)
    assert len(request.prompt) == ready.context_length
    with pytest.raises(ServiceError) as refused:
        asked(ready, messages=(), given=whole, max_tokens=1)
    assert refused.value.reason == "CONTEXT_LENGTH_EXCEEDED"


@pytest.mark.parametrize("token", [-1, 10**6])
def test_a_token_that_does_not_exist_is_named_by_its_place(ready: ReadyModel, token: int) -> None:
    with pytest.raises(InvalidArgument) as refused:
        asked(ready, messages=(), given=Given(ids=(5, token)))
    assert [violation.field for violation in refused.value.violations] == ["token_ids.ids[1]"]


def test_a_constraint_becomes_a_guide_and_without_one_there_is_none(ready: ReadyModel) -> None:
    assert asked(ready).guide is None
    guide = asked(ready, constraint=Constraint(Language.REGEX, "a", "response_format.regex")).guide
    guide.take(TOKENIZER.token_to_id("a"))


def test_a_model_without_tools_refuses_them_and_says_why(ready: ReadyModel) -> None:
    with pytest.raises(ServiceError, match="does not show tools") as refused:
        asked(ready, tools=(BELL,))
    assert (refused.value.reason, refused.value.status) == ("TOOLS_UNSUPPORTED", "FAILED_PRECONDITION")
    asked(ready, tools=(BELL,), tool_choice=ToolChoice(Mode.NONE))


def test_tools_are_shown_to_the_model_and_enforced_when_they_are_a_must(with_tools: ReadyModel) -> None:
    request = asked(with_tools, tools=(BELL,))
    assert '"bell"' in with_tools.renderer.decode(request.prompt)
    assert request.guide is None
    assert asked(with_tools, tools=(BELL,), tool_choice=ToolChoice(Mode.REQUIRED)).guide is not None
    assert '"bell"' not in with_tools.renderer.decode(asked(with_tools, tools=(BELL,), tool_choice=ToolChoice(Mode.NONE)).prompt)


def test_what_a_tool_gave_back_reaches_the_model_with_the_call(with_tools: ReadyModel) -> None:
    text = with_tools.renderer.decode(asked(with_tools, messages=CALLED, tools=(BELL,)).prompt)
    assert '{"name": "bell", "arguments": {}}' in text
    assert "rang" in text


def test_a_tools_turn_says_what_it_answers() -> None:
    assert rendered_messages(CALLED)[-1] == {"role": "tool", "content": "rang", "tool_call_id": "c1"}
    other = Message("tool", "rang", name="gong")
    assert rendered_messages((other,)) == [{"role": "tool", "content": "rang", "name": "gong"}]


def test_what_is_judged_is_what_training_learns(ready: ReadyModel) -> None:
    messages = (*HELLO, Message("assistant", "Good day"), Message("user", "Bye"), Message("assistant", "See you"))
    judged = judgement_for(ready, Question("tiny", messages, logprobs=2))
    rendered = ready.renderer.render([{"role": each.role, "content": each.content} for each in messages])
    assert (list(judged.request.prompt), list(judged.learned)) == (rendered.token_ids, rendered.loss_mask)
    assert (judged.request.judged_from, judged.request.logprobs, judged.request.max_tokens) == (
        rendered.loss_mask.index(True),
        2,
        1,
    )


def test_a_turn_of_weight_0_is_not_judged_as_it_is_not_learned(ready: ReadyModel) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]
    turns += [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]
    judged = judgement_for(ready, Question("tiny", tuple(Message(**turn) for turn in turns)))
    assert list(judged.learned) == ready.renderer.render(turns).loss_mask
    first = judged.learned.index(True)
    assert (judged.request.judged_from, sum(judged.learned)) == (first, 2)


def test_a_conversation_longer_than_the_context_is_not_judged(ready: ReadyModel) -> None:
    question = Question("tiny", (*HELLO, Message("assistant", "x" * 40)))
    with pytest.raises(ServiceError) as refused:
        judgement_for(dataclasses.replace(ready, context_length=30), question)
    assert refused.value.reason == "CONTEXT_LENGTH_EXCEEDED"


def test_a_model_without_a_chat_template_continues_texts_and_refuses_conversations(tmp_path: Path) -> None:
    directory = make_tiny_model(tmp_path / "plain")
    (directory / "chat_template.jinja").unlink()
    plain = ready_of(files_of("plain", directory))
    assert asked(plain, messages=(), given=Given("the use")).prompt
    with pytest.raises(ServiceError, match="no chat template"):
        asked(plain)
