"""One run of a program of the services: fed through its standard input, read when it has ended."""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tunesmith.errors import TunesmithError

_LAST_LINES = 8


@dataclass(frozen=True, slots=True)
class Ending:
    """How a program ended, and what it said."""

    exit_code: int
    stdout: bytes
    stderr: str


def run(module: str, arguments: Sequence[str], chunks: Iterable[bytes], descriptors: Sequence[int] = ()) -> Ending:
    """`python -m module arguments` with the chunks as its standard input; it may end before it has read them all.

    It inherits the file descriptors, whose numbers stand in its arguments.
    """
    command = [sys.executable, "-P", "-m", module, *arguments]
    # Into files: a program that writes while it reads would otherwise wait for us while we wait for it.
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr, pass_fds=descriptors) as process:
            try:
                _feed(process, chunks)
                process.wait()
            except BaseException:
                process.kill()
                raise
        stdout.seek(0)
        stderr.seek(0)
        return Ending(process.returncode, stdout.read(), stderr.read().decode(errors="replace"))


def _feed(process: "subprocess.Popen[bytes]", chunks: Iterable[bytes]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as sink:
        for chunk in chunks:
            sink.write(chunk)


def failure(reason: str, doing: str, ending: Ending) -> TunesmithError:
    """The error for a program that did not do its work."""
    if "No module named" in ending.stderr:
        missing = ending.stderr.strip().splitlines()[-1]
        hint = "Install the part of storage: pip install 'tunesmith[storage]'"
        return TunesmithError(f"{doing} is not installed here: {missing}", reason=reason, hint=hint)
    tail = "".join(f"\n    {line}" for line in ending.stderr.strip().splitlines()[-_LAST_LINES:])
    hint = "This is a defect; report it with the file's first lines."
    return TunesmithError(f"{doing} ended with exit code {ending.exit_code}:{tail}", reason=reason, hint=hint)
