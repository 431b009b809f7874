"""Tokens with their log-probabilities as callers are told of them; used by the answer flow and the scoring."""

import dataclasses

from services.inference.engine import Token
from services.inference.guides import Vocabulary


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """A token as text and bytes. `logprob` in nats, None = nothing stands before it; `top` as asked for, likeliest first."""

    id: int
    text: str
    bytes: bytes
    logprob: float | None
    top: tuple["Told", ...] = ()


def told(token: Token, vocabulary: Vocabulary) -> Told:
    """What a caller is told of a token."""
    return _told(token.id, token.logprob, vocabulary, tuple(_told(id_, value, vocabulary) for id_, value in token.top))


def _told(token: int, logprob: float | None, vocabulary: Vocabulary, top: tuple[Told, ...] = ()) -> Told:
    written = vocabulary.bytes_of(token)
    return Told(token, written.decode("utf-8", "replace"), written, logprob, top)
