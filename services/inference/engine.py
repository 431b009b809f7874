"""The port to whatever computes tokens; transformers_engine.py is the adapter, tests bring a fake."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Protocol

from services.common.errors import ServiceError


@dataclasses.dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; the fields of ChatRequest. Temperature 0 = always the one with the highest logit.

    Penalties and bias change the logits first, `repetition_penalty` at the front; then `temperature`, `top_k`, `min_p` and
    `top_p` narrow what is drawn from. `logit_bias` holds pairs of token id and what is added.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    top_k: int = 0
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()


class Guide(Protocol):
    """Which tokens one answer may go on with; guides.py has the adapter. Used by one row, and never again."""

    def allowed(self) -> bytes:
        """One bit per token of the vocabulary, the lowest bit of the first byte for token 0; raises ValueError once lost."""

    def take(self, token: int) -> None:
        """Moves on behind `token`; raises ValueError when it was not allowed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """A token and, if that was asked for, its log-probability by the model's own numbers, in nats."""

    id: int
    logprob: float | None = None
    """None also for the first token of a text, before which nothing stands."""
    top: tuple[tuple[int, float], ...] = ()
    """Id and log-probability of the likeliest in this place, likeliest first."""


@dataclasses.dataclass(frozen=True, slots=True)
class Written(Token):
    """A token that the engine chose; with the first one comes the judgement of the prompt that was asked for."""

    prompt: tuple[Token, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What to continue. `adapter` None = the base model alone. `max_tokens` is a promise: then at the latest it leaves."""

    base: str
    adapter: str | None
    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling = Sampling()
    logprobs: int | None = None
    """How many of the likeliest tokens are told with each written one; None = not even its own log-probability."""
    judged_from: int | None = None
    """The prompt's tokens from this one on are judged, too, with as many of the likeliest; None = none."""
    guide: Guide | None = dataclasses.field(default=None, compare=False)


class Engine(Protocol):
    """Weights in memory, and one running batch per base model whose rows come and go between steps.

    Every method blocks, and all are called from one thread. Models are named by resource names; rows by tickets, which are the
    caller's and never used twice. Whatever else is in the batch, a row gets the tokens that it would get alone, as far as the
    rounding of other shapes allows.
    """

    def load_base(self, name: str, directory: pathlib.Path) -> None:
        """Loads a base model; raises ServiceError (BASE_MODEL_UNUSABLE)."""

    def load_adapter(self, base: str, name: str, directory: pathlib.Path) -> None:
        """Loads an adapter beside a loaded base model; raises ServiceError (ARTIFACT_UNUSABLE)."""

    def unload(self, name: str) -> None:
        """Frees an adapter, or a base model with its adapters; unknown names are ignored. No row may use it any more."""

    def free_device_bytes(self) -> int:
        """What is left of the memory that models are loaded into; 0 = they are in main memory, or it is not known."""

    def admit(self, ticket: int, request: GenerationRequest) -> None:
        """Adds a row to the batch of its base model. Nothing is computed yet."""

    def step(self, base: str) -> Mapping[int, Written | ServiceError]:
        """One more token for every row of a base model whose prompt has been read, by ticket; a part of the others is read.

        A row that fails has a ServiceError (GENERATION_FAILED) in the place of its token and has left; the others go on.
        """

    def leave(self, ticket: int) -> None:
        """Takes a row out of its batch; one that is not there is ignored."""
