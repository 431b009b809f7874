"""Starts the processes of a run; used by the supervisor."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO

from services.common.parenthood import die_with
from services.trainer.processes import RUN_VARIABLE
from services.trainer.warm_start import BASE_VARIABLE, WarmRank


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
    is_warm: bool = False
    """It was started before the run."""

    def send(self, number: signal.Signals) -> None:
        """A signal to the process, if it still runs."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)


def start(launch: Launch, number: int, port: int, warm: WarmRank | None = None) -> Rank:
    """Starts one rank, out of `warm` if that is still there; raises OSError when the machine has no room for a process."""
    if warm is not None:
        own = {RUN_VARIABLE: str(launch.directory), "MASTER_PORT": str(port)}
        if warm.order([str(launch.directory / "config.json")], own):
            return Rank(number, warm.process, dict(warm.pipes), is_warm=True)
        warm.dismiss()
    command = [launch.module, str(launch.directory / "config.json")]
    own = {RUN_VARIABLE: str(launch.directory), "RANK": str(number), "LOCAL_RANK": str(number), "MASTER_PORT": str(port)}
    process, pipes = _spawn(command, own | _of_all(launch.processes, launch.threads), subprocess.DEVNULL)
    return Rank(number, process, pipes)


def start_warm(module: str, imports: str, threads: int, base: str) -> WarmRank:
    """Starts the only rank of a run that is to come; `imports` is the module that imports what takes long, `base` the directory
    of the base model to read, empty = none. Raises OSError."""
    command = ["services.trainer.warm_rank", module, imports]
    own = {"RANK": "0", "LOCAL_RANK": "0", BASE_VARIABLE: base}
    process, pipes = _spawn(command, own | _of_all(1, threads), subprocess.PIPE)
    return WarmRank(process, pipes, module)


def _spawn(
    command: Sequence[str], environment: Mapping[str, str], stdin: int
) -> tuple[subprocess.Popen[bytes], dict[str, IO[bytes]]]:
    """`python -m command`, and its pipes `stdout`, `stderr` and `events`."""
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **environment, "TUNESMITH_EVENTS_FD": str(writing)},
            pass_fds=(writing,),
            # The supervisor has one thread, so running Python between fork and exec is safe.
            preexec_fn=functools.partial(die_with, os.getpid()),  # noqa: PLW1509
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return process, _pipes(process, reading)


def free_port() -> int:
    """A port of the loopback interface that nobody has at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def has_gpu() -> bool:
    """Whether the machine has a device file of an NVIDIA GPU."""
    return any(pathlib.Path("/dev").glob("nvidia[0-9]*"))


def _of_all(processes: int, threads: int) -> dict[str, str]:
    """What all ranks have alike. Threads and their waiting are settled when torch is imported."""
    environment = {
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        # All ranks are on this machine; otherwise gloo listens where the host's name points to.
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": str(threads),
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
