"""An Engine that comes into being with its first use, so that the server can listen long before torch is imported."""

import functools
import pathlib
from collections.abc import Callable, Mapping

from services.common.errors import ServiceError
from services.inference.engine import Engine, GenerationRequest, Written


class LazyEngine:
    """Stands for the engine that `make` returns; confined to the engine's thread as every Engine is."""

    def __init__(self, make: Callable[[], Engine]) -> None:
        self._make = make

    def start(self) -> None:
        """Makes the engine now; without it the first use does."""
        _ = self._engine

    def load_base(self, name: str, directory: pathlib.Path) -> None:
        """See Engine."""
        self._engine.load_base(name, directory)

    def load_adapter(self, base: str, name: str, directory: pathlib.Path) -> None:
        """See Engine."""
        self._engine.load_adapter(base, name, directory)

    def unload(self, name: str) -> None:
        """See Engine."""
        self._engine.unload(name)

    def admit(self, ticket: int, request: GenerationRequest) -> None:
        """See Engine."""
        self._engine.admit(ticket, request)

    def step(self, base: str) -> Mapping[int, Written | ServiceError]:
        """See Engine."""
        return self._engine.step(base)

    def leave(self, ticket: int) -> None:
        """See Engine."""
        self._engine.leave(ticket)

    @functools.cached_property
    def _engine(self) -> Engine:
        return self._make()
