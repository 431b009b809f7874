"""Named places where a test makes a process die, stop, wait or fail; without TUNESMITH_FAILPOINTS they do nothing.

TUNESMITH_FAILPOINTS=NAME=ACTION[:SECONDS][@HIT],... with the names of POINTS. `@HIT` counts from 1 and means that hit alone;
without it every hit. Actions: `exit` (at once with code 86, nothing is tidied up), `raise` (Failed), `delay:SECONDS` (the whole
process stands still, as one does that swaps), `stop` (SIGSTOP to itself). Only who starts a process can set its environment.
"""

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping

EXIT_CODE = 86
VARIABLE = "TUNESMITH_FAILPOINTS"

_COMMITS = {
    "tasks.create": "a task is recorded",
    "tasks.cancel": "the wish to cancel",
    "tasks.ask": "the wish to pause or resume",
    "tasks.delete": "a task is removed",
    "tasks.retry": "the wish for another try",
    "queue.claim": "tasks are claimed for a trainer",
    "claims.adopt": "tasks without a living owner are taken over",
    "claims.renew": "leases are extended",
    "claims.release": "leases are given up",
    "claims.explain": "why a task waits",
    "claims.finish": "the end of an attempt",
    "claims.lose": "the loss of a run",
    "claims.heard": "which trainers have answered",
    "events.append": "events of a run",
    "artifacts.add": "storage commits an artifact",
}
_CALLS = {
    "start_run": "the task manager asks a trainer to start a run",
    "cancel_run": "the task manager asks a trainer to end a run",
    "spawn": "the trainer starts a supervisor",
    "kill": "the trainer asks a supervisor to end its processes",
    "upload": "the trainer uploads an adapter",
    "object.put": "storage writes an object",
}
POINTS: Mapping[str, str] = {
    **{f"{name}.commit": f"right before the commit: {what}" for name, what in _COMMITS.items()},
    **{f"{name}.committed": f"right behind the commit: {what}" for name, what in _COMMITS.items()},
    **{f"{name}.before": f"before {what}" for name, what in _CALLS.items()},
    **{f"{name}.after": f"after {what}" for name, what in _CALLS.items()},
}
"""Every failpoint there is, and where it is."""


class Failed(Exception):
    """A failpoint was told to raise."""


@dataclasses.dataclass(slots=True)
class _Armed:
    act: Callable[[], None]
    only: int | None
    hits: int = 0

    def hit(self) -> None:
        self.hits += 1
        if self.only in (None, self.hits):
            self.act()


_armed: dict[str, _Armed] = {}


def failpoint(name: str) -> None:
    """Does what a test has asked for at this place; mostly a look into an empty dictionary."""
    if _armed and name in _armed:
        _armed[name].hit()


@contextlib.contextmanager
def around(name: str) -> Iterator[None]:
    """The failpoints before and after a block; the second is not met when the block fails."""
    failpoint(f"{name}.before")
    yield
    failpoint(f"{name}.after")


def arm(text: str) -> None:
    """Arms what `text` names and nothing else, empty = nothing; raises ValueError for what is not of the form."""
    _armed.clear()
    _armed.update(_parse(part) for part in text.split(",") if part)


def watch(see: Callable[[str], None]) -> None:
    """Tells every hit of every failpoint to `see`, in this process."""
    _armed.clear()
    _armed.update({name: _Armed(_teller(see, name), None) for name in POINTS})


def _teller(see: Callable[[str], None], name: str) -> Callable[[], None]:
    return lambda: see(name)


def _parse(part: str) -> tuple[str, _Armed]:
    name, _, rest = part.partition("=")
    what, _, hit = rest.partition("@")
    action, _, seconds = what.partition(":")
    if name not in POINTS or action not in _ACTIONS:
        raise ValueError(f"{VARIABLE}: {part!r} is not NAME=ACTION of a failpoint")
    return name, _Armed(_ACTIONS[action](name, float(seconds or 0)), int(hit) if hit else None)


def _raise(name: str) -> None:
    raise Failed(name)


_ACTIONS: Mapping[str, Callable[[str, float], Callable[[], None]]] = {
    "exit": lambda name, seconds: lambda: os._exit(EXIT_CODE),
    "raise": lambda name, seconds: lambda: _raise(name),
    "delay": lambda name, seconds: lambda: time.sleep(seconds),
    "stop": lambda name, seconds: lambda: os.kill(os.getpid(), signal.SIGSTOP),
}

arm(os.environ.get(VARIABLE, ""))
