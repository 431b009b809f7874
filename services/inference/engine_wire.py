"""What an engine in a process of its own is asked and answers: MessagePack over a pair of sockets, one answer a question."""

from collections.abc import Mapping

import msgspec

from services.common.errors import ServiceError, Violation
from services.inference.engine import GenerationRequest, Written


class LoadBase(msgspec.Struct, frozen=True, tag=True):
    """Engine.load_base."""

    name: str
    directory: str


class LoadAdapter(msgspec.Struct, frozen=True, tag=True):
    """Engine.load_adapter."""

    base: str
    name: str
    directory: str


class Unload(msgspec.Struct, frozen=True, tag=True):
    """Engine.unload."""

    name: str


class FreeDevice(msgspec.Struct, frozen=True, tag=True):
    """Engine.free_device_bytes."""


class Admit(msgspec.Struct, frozen=True, tag=True):
    """Engine.admit. `request` has no guide: a guide stays where the question is, and `is_guided` says that there is one."""

    ticket: int
    request: GenerationRequest
    is_guided: bool


class Step(msgspec.Struct, frozen=True, tag=True):
    """Engine.step; `allowed` has what guides allow now, by ticket, see Guide.allowed."""

    base: str
    allowed: Mapping[int, bytes]


class Leave(msgspec.Struct, frozen=True, tag=True):
    """Engine.leave."""

    ticket: int


class Failure(msgspec.Struct, frozen=True, tag=True):
    """A ServiceError; with an empty reason, anything else that was raised."""

    reason: str
    message: str
    hint: str = ""
    metadata: Mapping[str, str] = {}
    violations: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        """An error as it is told."""
        if not isinstance(error, ServiceError):
            return cls("", f"{type(error).__name__}: {error}")
        violations = tuple((each.field, each.description) for each in error.violations)
        return cls(error.reason, error.message, error.hint, error.metadata, violations)

    def error(self) -> Exception:
        """The error that was told."""
        if not self.reason:
            return RuntimeError(self.message)
        violations = [Violation(*each) for each in self.violations]
        return ServiceError(self.reason, self.message, hint=self.hint, metadata=self.metadata, violations=violations)


class Done(msgspec.Struct, frozen=True, tag=True):
    """It was done; the first answer of all says that the engine is ready."""


class Free(msgspec.Struct, frozen=True, tag=True):
    """What a device has left."""

    bytes: int


class Stepped(msgspec.Struct, frozen=True, tag=True):
    """What came of a step, by ticket."""

    written: Mapping[int, Written]
    failed: Mapping[int, Failure]


Question = LoadBase | LoadAdapter | Unload | FreeDevice | Admit | Step | Leave
Answer = Done | Free | Stepped | Failure


_encoder = msgspec.msgpack.Encoder()
_questions: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode(message: Question | Answer) -> bytes:
    """A message on its way."""
    return _encoder.encode(message)


def decode_question(data: bytes) -> Question:
    """A question that has arrived."""
    return _questions.decode(data)


def decode_answer(data: bytes) -> Answer:
    """An answer that has arrived."""
    return _answers.decode(data)
