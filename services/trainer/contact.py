"""When a task manager last asked this trainer for anything: the face writes it down, and supervisors, which may outlive the face,
end their runs when that was too long ago. Standard library only.

Times are seconds since the machine was started, its sleep included: the same in all processes, and moved by nobody.
"""

import contextlib
import dataclasses
import os
import pathlib
import time
import uuid
from collections.abc import Callable, Sequence

_WRITES_IN_LIMIT = 20
_FILE = "contact"


def since_boot() -> float:
    """The clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclasses.dataclass(frozen=True, slots=True)
class Fence:
    """A run ends when nobody has asked this trainer for anything for `limit` seconds."""

    path: pathlib.Path
    """Where the face writes when somebody has."""
    limit: float

    @classmethod
    def within(cls, data_dir: pathlib.Path, limit: float) -> "Fence":
        """Of the trainer with this data directory."""
        return cls(data_dir.resolve() / _FILE, limit)

    def options(self) -> Sequence[str]:
        """For the command line of a supervisor."""
        return ("--contact", str(self.path), "--fence", str(self.limit))


class Contact:
    """The face's: writes, and not more often than it takes. Without a fence nothing is written."""

    def __init__(self, fence: Fence | None, clock: Callable[[], float] = since_boot) -> None:
        self._fence = fence
        self._clock = clock
        self._written: float | None = None

    def note(self) -> None:
        """Somebody asks."""
        now = self._clock()
        if self._fence is None or (self._written is not None and now - self._written < self._fence.limit / _WRITES_IN_LIMIT):
            return
        scratch = self._fence.path.with_name(f".{_FILE}.{uuid.uuid4().hex}")
        # On a disk that is full nothing can be written; runs then end sooner than they have to, which is the safe side.
        with contextlib.suppress(OSError):
            scratch.write_text(str(now))
            os.rename(scratch, self._fence.path)
            self._written = now


class Silence:
    """A supervisor's. What cannot be read counts as silence since this was made."""

    def __init__(self, fence: Fence, clock: Callable[[], float] = since_boot) -> None:
        self._fence = fence
        self._clock = clock
        self._heard = clock()

    def too_long(self) -> float:
        """For how many seconds nobody has asked for anything; 0 while that is not too long."""
        now = self._clock()
        with contextlib.suppress(OSError, ValueError):
            # A number beyond now is of a time before the machine was started anew.
            heard = float(self._fence.path.read_text())
            self._heard = heard if heard <= now else self._heard
        silence = now - self._heard
        return silence if silence >= self._fence.limit else 0.0
