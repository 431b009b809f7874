"""A supervisor that waits for its run, with a rank that is ready; used by `supervisor`, told what to do by `warm_pool`.

On standard output goes one line once the rank is ready: its process id. A line on standard input names the run's directory. When
the rank or whoever would give the line ends first, all ends: nothing is lost, since nothing has begun.
"""

import os
import pathlib
import selectors
import sys

from services.trainer.warm_start import WarmRank

_READ_BYTES = 4096


def wait_for_run(warm: WarmRank) -> pathlib.Path | None:
    """The directory of the run, once there is one; None when there will be none."""
    order = b""
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ, "order")
        selector.register(warm.pipes["events"], selectors.EVENT_READ, "rank")
        while not order.endswith(b"\n"):
            for key, _ in selector.select():
                data = os.read(key.fd, _READ_BYTES)
                if not data:
                    return None
                if key.data == "order":
                    order += data
                else:
                    print(warm.process.pid, flush=True)  # noqa: T201 - a protocol
    directory = pathlib.Path(os.fsdecode(order.rstrip(b"\n")))
    _settle_in(directory)
    return directory


def _settle_in(directory: pathlib.Path) -> None:
    """From now on this is the supervisor of the run, and whoever gave the order may go."""
    log = os.open(directory / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(log)
    os.close(nothing)
