"""What is asked of a model, free of the wire format, and its validation; built by the servicer, read by the answer flow."""

import dataclasses
from collections.abc import Iterator

from services.common.errors import InvalidArgument, Violation
from services.inference.engine import Sampling
from services.inference.guides import Constraint
from services.inference.tools import AUTO, Mode, Tool, ToolCall, ToolChoice, json_object, tool_violations

DEFAULT_MAX_TOKENS = 256
MAX_CHOICES = 8
_ROLES = ("system", "user", "assistant", "tool")
_MAX_TOP_LOGPROBS = 20
_MAX_CONSTRAINT_BYTES = 64 * 1024
_MAX_STOPS = 4
MAX_SEED = 2**63 - 1
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
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""
    weight: int = 1
    """0 = a turn of the assistant that training does not learn, and that is not judged."""


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """A text to continue as it stands: `text`, or token ids; `echo` = the answer begins with it."""

    text: str = ""
    ids: tuple[int, ...] = ()
    echo: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """A conversation or a text, and how to answer it. Absent numbers have their defaults already, except the seed: None = random.

    `given` is there instead of `messages`. `logprobs` is how many of the likeliest tokens are told; None = nothing is.
    """

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
    given: Given | None = None
    n: int = 1
    logprobs: int | None = None
    constraint: Constraint | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = AUTO

    @property
    def offered(self) -> tuple[Tool, ...]:
        """The tools that the model is told of."""
        return () if self.tool_choice.mode is Mode.NONE else self.tools

    def sampling(self, seed: int) -> Sampling:
        """How to choose tokens."""
        shared = {field.name: getattr(self, field.name) for field in dataclasses.fields(Sampling) if field.name != "seed"}
        return Sampling(**shared, seed=seed)

    def check(self) -> None:
        """Raises InvalidArgument naming every field that is wrong; `model` is the resolver's to judge."""
        subject = _text(self.given) if self.given else _asked(self.messages)
        shape = (*_constraint(self), *tool_violations(self.tools, self.tool_choice))
        violations = [*subject, *_numbers(self), *_stops(self.stop), *_biases(self.logit_bias), *shape]
        if violations:
            raise InvalidArgument(*violations)

    def check_as_conversation(self) -> None:
        """Raises InvalidArgument unless it is a conversation in which the assistant has said something."""
        violations = [*_conversation(self.messages), *_numbers(self), *tool_violations(self.tools, self.tool_choice)]
        if self.messages and not any(message.role == "assistant" and message.weight for message in self.messages):
            text = "no turn is the assistant's and has not weight 0, so there is nothing to judge"
            violations.append(Violation("messages", text))
        if violations:
            raise InvalidArgument(*violations)


def _asked(messages: tuple[Message, ...]) -> Iterator[Violation]:
    yield from _conversation(messages)
    if messages and messages[-1].role == "assistant":
        yield Violation(f"messages[{len(messages) - 1}].role", "the last turn is the assistant's, which is what is asked for")


def _conversation(messages: tuple[Message, ...]) -> Iterator[Violation]:
    if not messages:
        yield Violation("messages", "is required; at least one message")
    for index, message in enumerate(messages):
        if message.role not in _ROLES:
            yield Violation(f"messages[{index}].role", f"{message.role[:40]!r} is none of {', '.join(_ROLES)}")
        # A model may have had nothing to say and a tool nothing to give back; a question that is empty is a mistake.
        if not message.content and message.role == "user":
            yield Violation(f"messages[{index}].content", "is required")
        if message.weight not in (0, 1) or (message.weight == 0 and message.role != "assistant"):
            yield Violation(f"messages[{index}].weight", f"{message.weight} is not 1, nor the 0 of a turn of the assistant")
        yield from _calls(f"messages[{index}]", message)


def _calls(path: str, message: Message) -> Iterator[Violation]:
    if message.tool_calls and message.role != "assistant":
        yield Violation(f"{path}.tool_calls", f"only the assistant calls tools, this turn is {message.role[:40]!r}")
    if (message.tool_call_id or message.name) and message.role != "tool":
        yield Violation(f"{path}.tool_call_id", "only a turn of the role tool answers a call")
    for index, call in enumerate(message.tool_calls):
        if not call.name:
            yield Violation(f"{path}.tool_calls[{index}].name", "is required")
        try:
            json_object(call.arguments or "{}")
        except ValueError as error:
            yield Violation(f"{path}.tool_calls[{index}].arguments", f"is not the JSON of an object: {error}")


def _text(given: Given) -> Iterator[Violation]:
    if not given.text and not given.ids:
        yield Violation("prompt", "is required; a text or token ids")


def _constraint(question: Question) -> Iterator[Violation]:
    if question.constraint is None:
        return
    if len(question.constraint.text.encode()) > _MAX_CONSTRAINT_BYTES:
        yield Violation(question.constraint.field, f"is longer than {_MAX_CONSTRAINT_BYTES:,} bytes")
    if question.tools:
        yield Violation("response_format", "excludes tools; make a tool strict instead")


def _numbers(question: Question) -> Iterator[Violation]:
    for name, least, most in _CLOSED_RANGES:
        value = getattr(question, name)
        if not least <= value <= most:
            yield Violation(name, f"{value} is not between {least} and {most}")
    for name, most in _OPEN_RANGES:
        value = getattr(question, name)
        if not 0 < value <= most:
            yield Violation(name, f"{value} is not more than 0 and at most {most}")
    no_tokens = question.given is not None and question.given.echo
    for name, least in (("max_tokens", 0 if no_tokens else 1), ("top_k", 0)):
        if (value := getattr(question, name)) < least:
            yield Violation(name, f"{value} is less than {least}")
    if not 1 <= question.n <= MAX_CHOICES:
        yield Violation("n", f"{question.n} is not between 1 and {MAX_CHOICES}")
    if question.logprobs is not None and not 0 <= question.logprobs <= _MAX_TOP_LOGPROBS:
        yield Violation("top_logprobs", f"{question.logprobs} is not between 0 and {_MAX_TOP_LOGPROBS}")
    if question.seed is not None and not 0 <= question.seed <= MAX_SEED:
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
