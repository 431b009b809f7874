"""What is asked of a model, free of the wire format, and its validation; built by the servicer, read by the answer flow."""

import dataclasses
import math
from collections.abc import Iterator

from services.common.errors import InvalidArgument, Violation

DEFAULT_MAX_TOKENS = 256
_ROLES = ("system", "user", "assistant")
_MAX_STOPS = 4
_MAX_SEED = 2**63 - 1


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """A conversation and how to answer it. Absent numbers have their defaults already, except the seed: None = random."""

    model: str
    messages: tuple[Message, ...]
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = DEFAULT_MAX_TOKENS
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises InvalidArgument naming every field that is wrong; `model` is the resolver's to judge."""
        violations = [*_conversation(self.messages), *_numbers(self), *_stops(self.stop)]
        if violations:
            raise InvalidArgument(*violations)


def _conversation(messages: tuple[Message, ...]) -> Iterator[Violation]:
    if not messages:
        yield Violation("messages", "is required; at least one message")
        return
    for index, message in enumerate(messages):
        if message.role not in _ROLES:
            yield Violation(f"messages[{index}].role", f"{message.role[:40]!r} is none of {', '.join(_ROLES)}")
        if not message.content:
            yield Violation(f"messages[{index}].content", "is required")
    if messages[-1].role == "assistant":
        yield Violation(f"messages[{len(messages) - 1}].role", "the last turn is the assistant's, which is what is asked for")


def _numbers(question: Question) -> Iterator[Violation]:
    if not (math.isfinite(question.temperature) and 0 <= question.temperature <= 2):
        yield Violation("temperature", f"{question.temperature} is not between 0 and 2")
    if not (math.isfinite(question.top_p) and 0 < question.top_p <= 1):
        yield Violation("top_p", f"{question.top_p} is not more than 0 and at most 1")
    if question.max_tokens < 1:
        yield Violation("max_tokens", f"{question.max_tokens} is less than 1")
    if question.seed is not None and not 0 <= question.seed <= _MAX_SEED:
        yield Violation("seed", f"{question.seed} is not between 0 and 2^63-1")


def _stops(stop: tuple[str, ...]) -> Iterator[Violation]:
    if len(stop) > _MAX_STOPS:
        yield Violation("stop", f"{len(stop)} texts are more than {_MAX_STOPS}")
    for index, text in enumerate(stop):
        if not text:
            yield Violation(f"stop[{index}]", "is empty")
