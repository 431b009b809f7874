"""Engines at the other end of a wire without a process, and some that die as a process does."""

import contextlib
import socket
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

from inference_fakes import FakeEngine, Script, repeating

from services.common.errors import ServiceError
from services.inference.engine import Engine, Written
from services.inference.engine_process import serve
from services.inference.remote_engine import EngineProcess


class Death(BaseException):
    """The process dies here; no `except` of the code under test sees it."""


def in_a_thread(engine: Engine) -> EngineProcess:
    """What `EngineProcess.start` gives, for this engine."""
    ours, theirs = (Connection(end.detach()) for end in socket.socketpair())

    def live() -> None:
        with contextlib.suppress(Death), theirs:
            serve(theirs, engine)

    threading.Thread(target=live, daemon=True).start()
    return EngineProcess(ours)


class Mortal(FakeEngine):
    """Dies when it is asked to load or step what is in `poison`."""

    def __init__(self, script: Script = repeating, poison: frozenset[str] = frozenset()) -> None:
        super().__init__(script)
        self.poison = poison

    def load_base(self, name: str, directory: Path) -> None:
        self._live(f"load {name}")
        super().load_base(name, directory)

    def load_adapter(self, base: str, name: str, directory: Path) -> None:
        self._live(f"load {name}")
        super().load_adapter(base, name, directory)

    def step(self, base: str) -> Mapping[int, Written | ServiceError]:
        self._live(f"step {base}")
        return super().step(base)

    def unload(self, name: str) -> None:
        self._live(f"unload {name}")
        super().unload(name)

    def _live(self, what: str) -> None:
        if what in self.poison:
            raise Death
