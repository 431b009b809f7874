"""What is asked of a model, free of the wire format, and its validation; built by the servicer, read by the answer flow."""

import dataclasses
from collections.abc import Iterator

from services.common.errors import InvalidArgument, Violation
from services.inference.engine import Sampling

DEFAULT_MAX_TOKENS = 256
_ROLES = ("system", "user", "assistant")
_MAX_STOPS = 4
_MAX_SEED = 2**63 - 1
_MAX_BIASES = 300
_MAX_BIAS = 100
# A comparison with NaN is false, so NaN is in no range.
_CLOSED_RANGES = (("temperature", 0, 2), ("min_p", 0, 1), ("frequency_penalty", -2, 2), ("presence_penalty", -2, 2))
_OPEN_RANGES = (("top_p", 1), ("repetition_penalty", 10))


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
    top_k: int = 0
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()

    def sampling(self, seed: int) -> Sampling:
        """How to choose tokens."""
        shared = {field.name: getattr(self, field.name) for field in dataclasses.fields(Sampling) if field.name != "seed"}
        return Sampling(**shared, seed=seed)

    def check(self) -> None:
        """Raises InvalidArgument naming every field that is wrong; `model` is the resolver's to judge."""
        violations = [*_conversation(self.messages), *_numbers(self), *_stops(self.stop), *_biases(self.logit_bias)]
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
    for name, least, most in _CLOSED_RANGES:
        value = getattr(question, name)
        if not least <= value <= most:
            yield Violation(name, f"{value} is not between {least} and {most}")
    for name, most in _OPEN_RANGES:
        value = getattr(question, name)
        if not 0 < value <= most:
            yield Violation(name, f"{value} is not more than 0 and at most {most}")
    for name, least in (("max_tokens", 1), ("top_k", 0)):
        if (value := getattr(question, name)) < least:
            yield Violation(name, f"{value} is less than {least}")
    if question.seed is not None and not 0 <= question.seed <= _MAX_SEED:
        yield Violation("seed", f"{question.seed} is not between 0 and 2^63-1")


def _stops(stop: tuple[str, ...]) -> Iterator[Violation]:
    if len(stop) > _MAX_STOPS:
        yield Violation("stop", f"{len(stop)} texts are more than {_MAX_STOPS}")
    for index, text in enumerate(stop):
        if not text:
            yield Violation(f"stop[{index}]", "is empty")


def _biases(biases: tuple[tuple[int, float], ...]) -> Iterator[Violation]:
    if len(biases) > _MAX_BIASES:
        yield Violation("logit_bias", f"{len(biases)} tokens are more than {_MAX_BIASES}")
    for token, bias in biases:
        if not -_MAX_BIAS <= bias <= _MAX_BIAS:
            yield Violation(f"logit_bias[{token}]", f"{bias} is not between -{_MAX_BIAS} and {_MAX_BIAS}")
