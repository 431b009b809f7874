"""A rank that is started before there is a run for it; kept by a waiting supervisor, whose child it is from the beginning.

Only what is the same for every run of one process is in its environment; the rest comes with the order.
"""

import contextlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

BASE_VARIABLE = "TUNESMITH_WARM_BASE"
"""Directory of the base model that the rank reads while it waits; unset = none."""


@dataclass(slots=True)
class WarmRank:
    """Good for one run, or for none: it may be gone at any moment."""

    process: subprocess.Popen[bytes]
    pipes: Mapping[str, IO[bytes]]
    """`stdout`, `stderr` and `events`, not blocking."""
    module: str
    """What it has imported everything for."""

    def order(self, arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
        """Makes it go on as its module with these; whether it was still there. May be called once."""
        line = json.dumps({"arguments": list(arguments), "environment": dict(environment)}).encode() + b"\n"
        pipe = self.process.stdin
        assert pipe is not None
        try:
            # An order that is shorter than a pipe is long never blocks.
            pipe.write(line)
        except OSError:
            return False
        finally:
            with contextlib.suppress(OSError):
                pipe.close()
        return self.process.poll() is None

    def dismiss(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, *self.pipes.values()):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
