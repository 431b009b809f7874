"""The port to whatever computes tokens; transformers_engine.py is the adapter, tests bring a fake."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Protocol


@dataclasses.dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. Temperature 0 = always the likeliest; then `top_p` and `seed` play no part."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What to continue. `adapter` None = the base model alone."""

    base: str
    adapter: str | None
    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling = Sampling()


class Engine(Protocol):
    """Weights in memory. Every method blocks, and all are called from one thread; names are resource names."""

    def load_base(self, name: str, directory: pathlib.Path) -> None:
        """Loads a base model; raises ServiceError (BASE_MODEL_UNUSABLE)."""

    def load_adapter(self, base: str, name: str, directory: pathlib.Path) -> None:
        """Loads an adapter beside a loaded base model; raises ServiceError (ARTIFACT_UNUSABLE)."""

    def unload(self, name: str) -> None:
        """Frees an adapter, or a base model with its adapters; unknown names are ignored."""

    def generate(self, request: GenerationRequest) -> Iterator[int]:
        """Token ids one by one, `max_tokens` of them: where the text ends is the caller's to see.

        The iterator is used up or dropped before any other method is called. Raises ServiceError (GENERATION_FAILED).
        """
