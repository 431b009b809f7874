"""From a question to what the engine is asked; used by the model host in the registry's thread."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from services.common.errors import InvalidArgument, ServiceError, Violation
from services.common.rendering import RenderError
from services.inference.engine import GenerationRequest, Sampling
from services.inference.question import Given, Message, Question
from services.inference.ready_model import ReadyModel
from services.inference.tool_text import tool_constraint
from services.inference.tools import Tool


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """A conversation for the engine to judge; `learned[i]` says whether training learns token i."""

    request: GenerationRequest
    learned: tuple[bool, ...]


def request_for(model: ReadyModel, question: Question, new_seed: Callable[[], int]) -> GenerationRequest:
    """What the engine is asked; a question without a seed gets a new one.

    Raises InvalidArgument (the template refuses the conversation, a token that does not exist, a constraint that cannot be
    enforced) and ServiceError (CONTEXT_LENGTH_EXCEEDED, TOOLS_UNSUPPORTED).
    """
    _check_tokens(model, question)
    prompt = prompt_ids(model, question)
    room = min(max(1, question.max_tokens), model.context_length - len(prompt))
    seed = new_seed() if question.seed is None else question.seed
    constraint = question.constraint or tool_constraint(question.offered, question.tool_choice, model.vocabulary.literal)
    is_judged = question.given is not None and question.given.echo and question.logprobs is not None
    return GenerationRequest(
        model.base,
        model.adapter,
        prompt,
        room,
        question.sampling(seed),
        logprobs=question.logprobs,
        judged_from=0 if is_judged else None,
        guide=model.vocabulary.guide(constraint) if constraint else None,
    )


def judgement_for(model: ReadyModel, question: Question) -> Judged:
    """What the engine is asked to judge: the tokens that training learns; raises as `request_for` does."""
    tools = _declared(model, question.offered)
    with _callers_error():
        rendered = model.renderer.render(rendered_messages(question.messages), tools)
    ids, learned = tuple(rendered.token_ids), tuple(rendered.loss_mask)
    if len(ids) > model.context_length:
        raise _too_long(model, len(ids))
    # The one token that is written tells nothing; with it comes the judgement.
    request = GenerationRequest(
        model.base, model.adapter, ids, 1, Sampling(), logprobs=question.logprobs or 0, judged_from=learned.index(True)
    )
    return Judged(request, learned)


def prompt_ids(model: ReadyModel, question: Question) -> tuple[int, ...]:
    """Token ids of what is continued; raises InvalidArgument, and CONTEXT_LENGTH_EXCEEDED when nothing could follow them."""
    ids = _given_ids(model, question.given) if question.given else _conversation_ids(model, question)
    nothing_follows = question.given is not None and question.max_tokens == 0
    if len(ids) - nothing_follows >= model.context_length:
        raise _too_long(model, len(ids))
    return tuple(ids)


def rendered_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages in OpenAI's form, as the renderer takes them."""
    return list(map(_rendered, messages))


def _rendered(message: Message) -> dict[str, Any]:
    fields: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        fields["tool_calls"] = [call.written() for call in message.tool_calls]
    if not message.weight:
        fields["weight"] = 0
    if message.role == "tool":
        answered = {"tool_call_id": message.tool_call_id, "name": message.name}
        fields |= {key: value for key, value in answered.items() if value}
    return fields


def _conversation_ids(model: ReadyModel, question: Question) -> Sequence[int]:
    tools = _declared(model, question.offered)
    with _callers_error():
        return model.renderer.prompt(rendered_messages(question.messages), tools)


def _given_ids(model: ReadyModel, given: Given) -> Sequence[int]:
    ids = given.ids or model.renderer.text_prompt(given.text)
    for index, token in enumerate(ids):
        if not 0 <= token < model.vocabulary_size:
            raise InvalidArgument(Violation(f"token_ids.ids[{index}]", f"{token} is not {_tokens(model)}"))
    if not ids:
        raise InvalidArgument(Violation("text", "has no tokens"))
    return ids


def _declared(model: ReadyModel, tools: Sequence[Tool]) -> list[dict[str, Any]] | None:
    if tools and not model.speaks_tools:
        reason = "does not show tools to the model, or writes calls in another way than between <tool_call> and </tool_call>"
        raise ServiceError("TOOLS_UNSUPPORTED", f"tools: the chat template of {model.base} {reason}")
    return [tool.declared() for tool in tools] or None


def _check_tokens(model: ReadyModel, question: Question) -> None:
    strange = [token for token, _ in question.logit_bias if not 0 <= token < model.vocabulary_size]
    if strange:
        raise InvalidArgument(*(Violation(f"logit_bias[{token}]", f"is not {_tokens(model)}") for token in strange))


def _tokens(model: ReadyModel) -> str:
    return f"a token of {model.base}: 0 to {model.vocabulary_size - 1}"


@contextlib.contextmanager
def _callers_error() -> Iterator[None]:
    """What the template refuses of the messages is the caller's error."""
    try:
        yield
    except RenderError as error:
        if error.reason == "DATASET_UNUSABLE":
            raise InvalidArgument(Violation("messages", error.message)) from error
        raise


def _too_long(model: ReadyModel, count: int) -> ServiceError:
    return ServiceError(
        "CONTEXT_LENGTH_EXCEEDED",
        f"the conversation has {count} tokens, {model.base} attends to {model.context_length}",
        metadata={"prompt_tokens": str(count), "context_length": str(model.context_length)},
        violations=[Violation("messages", f"{count} tokens leave no room for an answer")],
    )
