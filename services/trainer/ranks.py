"""Starts the processes of a run; used by the supervisor."""

import contextlib
import ctypes
import dataclasses
import os
import pathlib
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import IO

from services.trainer.processes import RUN_VARIABLE

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclasses.dataclass(frozen=True, slots=True)
class Launch:
    """How the ranks of one run are started."""

    directory: pathlib.Path
    module: str
    """Run as `python -m MODULE DIRECTORY/config.json`."""
    processes: int
    threads: int
    """OMP_NUM_THREADS of each."""


@dataclasses.dataclass(slots=True)
class Rank:
    """One started process; `exit_code` is None while it runs, negative for a signal."""

    number: int
    process: subprocess.Popen[bytes]
    pipes: dict[str, IO[bytes]]
    """`stdout`, `stderr` and `events`, not blocking."""
    exit_code: int | None = None

    def send(self, number: signal.Signals) -> None:
        """A signal to the process, if it still runs."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)


def start(launch: Launch, number: int, port: int) -> Rank:
    """Starts one rank; raises OSError when the machine has no room for a process."""
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", launch.module, str(launch.directory / "config.json")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=_environment(launch, number, port, writing),
            pass_fds=(writing,),
            # The supervisor has one thread, so running Python between fork and exec is safe.
            preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return Rank(number, process, _pipes(process, reading))


def free_port() -> int:
    """A port of the loopback interface that nobody has at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def adopt_orphans() -> None:
    """Makes this process the parent of every descendant whose parent dies, so that none can hide."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def has_gpu() -> bool:
    """Whether the machine has a device file of an NVIDIA GPU."""
    return any(pathlib.Path("/dev").glob("nvidia[0-9]*"))


def _environment(launch: Launch, number: int, port: int, events: int) -> dict[str, str]:
    environment = os.environ | {
        RUN_VARIABLE: str(launch.directory),
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(launch.processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        # All ranks are on this machine; otherwise gloo listens where the host's name points to.
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": str(launch.threads),
        "TUNESMITH_EVENTS_FD": str(events),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }
    return environment if has_gpu() else environment | {"DS_ACCELERATOR": "cpu"}


def _pipes(process: subprocess.Popen[bytes], events: int) -> dict[str, IO[bytes]]:
    assert process.stdout is not None
    assert process.stderr is not None
    pipes = {"stdout": process.stdout, "stderr": process.stderr, "events": os.fdopen(events, "rb", buffering=0)}
    for pipe in pipes.values():
        os.set_blocking(pipe.fileno(), False)
    return pipes


def _die_with(parent: int) -> Callable[[], None]:
    def prepare() -> None:
        _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        # The parent may have died before the line above: then nobody would ever send the signal.
        if os.getppid() != parent:
            os._exit(1)

    return prepare


_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")
