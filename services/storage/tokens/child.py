"""The worker as a child process: inputs in, output out, killed when it is overdue or no longer wanted; used by `client`."""

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

from services.common.errors import ServiceError

MAX_OUTPUT_BYTES = 256 * 2**20
_MAX_LOG_BYTES = 64 * 1024
_PIECE_BYTES = 64 * 1024
_MODULE = "services.storage.tokens"
_ROOT = pathlib.Path(__file__).parents[3]


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """How the process ended; a negative exit code is the number of the signal that killed it."""

    exit_code: int
    output: bytes
    log: str


class WorkerFailed(ServiceError):
    """The process did not do its work. `killed`: it took too much, or crashed, and it is what it was given that does so."""

    def __init__(self, message: str, *, killed: bool = False) -> None:
        super().__init__("TOKEN_WORKER_FAILED", message)
        self.killed = killed

    @classmethod
    def of(cls, ended: Ended) -> "WorkerFailed":
        """What the exit code and the last line of the log tell."""
        said = ended.log.strip().splitlines()[-1:]
        why = f": {said[0][:300]}" if said else ""
        if ended.exit_code < 0:
            return cls(f"the process was killed by {signal.Signals(-ended.exit_code).name}{why}", killed=True)
        return cls(f"the process ended with exit code {ended.exit_code}{why}")


class Child:
    """One process to be. `second_input` is the option that names the file descriptor of a second input."""

    def __init__(self, arguments: Sequence[str], *, second_input: str = "") -> None:
        self._arguments = list(arguments)
        self._second_input = second_input

    async def run(self, inputs: Sequence[AsyncIterator[bytes]], seconds: float) -> Ended:
        """Feeds standard input, and the second input if there is one, until the process ends.

        Raises WorkerFailed when it takes longer than `seconds` or writes too much, and what the inputs raise.
        """
        try:
            async with asyncio.timeout(seconds) as limit:
                return await self._run(inputs)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise WorkerFailed(f"the process took longer than {seconds:g} seconds and was killed", killed=True) from error

    async def _run(self, inputs: Sequence[AsyncIterator[bytes]]) -> Ended:
        async with contextlib.AsyncExitStack() as stack:
            process, writers = await self._start(stack)
            assert process.stdout is not None
            assert process.stderr is not None
            output = asyncio.create_task(_read_all(process.stdout))
            log = asyncio.create_task(_read_end(process.stderr))
            feeds = [asyncio.create_task(_feed(chunks, writer)) for chunks, writer in zip(inputs, writers, strict=True)]
            stack.push_async_callback(_stop, [output, log, *feeds], writers)
            await _until_ended(output, feeds)
            return Ended(await process.wait(), await output, await log)

    async def _start(self, stack: contextlib.AsyncExitStack) -> tuple[asyncio.subprocess.Process, list[asyncio.StreamWriter]]:
        arguments, theirs, ours = list(self._arguments), -1, -1
        if self._second_input:
            theirs, ours = os.pipe()
            arguments += [self._second_input, str(theirs)]
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", _MODULE, *arguments, env=_environment(),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                pass_fds=[theirs] if self._second_input else [],
            )  # fmt: skip
            stack.push_async_callback(_kill, process)
        except BaseException:
            _close(ours)
            raise
        finally:
            _close(theirs)
        assert process.stdin is not None
        return process, [process.stdin] + ([await _writer(ours)] if self._second_input else [])


def _environment() -> dict[str, str]:
    """Nothing of the service's own: its keys and passwords are no business of a process that runs strangers' templates."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "PYTHONPATH": str(_ROOT), "PYTHONUTF8": "1", "TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)


async def _writer(descriptor: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    pipe = os.fdopen(descriptor, "wb", buffering=0)
    protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
    transport, _ = await loop.connect_write_pipe(lambda: protocol, pipe)
    return asyncio.StreamWriter(transport, protocol, None, loop)


async def _until_ended(output: asyncio.Task[bytes], feeds: Sequence[asyncio.Task[None]]) -> None:
    """An input that breaks ends the work; one that the process no longer waits for does not keep it open."""
    pending: set[asyncio.Task[Any]] = {output, *feeds}
    while output in pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


async def _feed(chunks: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
    # A process that has seen enough closes its end; its exit code says whether that was right.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        try:
            async for chunk in chunks:
                writer.write(chunk)
                await writer.drain()
        finally:
            writer.close()


async def _read_all(stream: asyncio.StreamReader) -> bytes:
    output = bytearray()
    while piece := await stream.read(_PIECE_BYTES):
        output += piece
        if len(output) > MAX_OUTPUT_BYTES:
            raise WorkerFailed(f"the process writes more than {MAX_OUTPUT_BYTES:,} bytes")
    return bytes(output)


async def _read_end(stream: asyncio.StreamReader) -> str:
    log = b""
    while piece := await stream.read(_PIECE_BYTES):
        log = (log + piece)[-_MAX_LOG_BYTES:]
    return log.decode(errors="replace")


async def _stop(tasks: Sequence[asyncio.Task[Any]], writers: Sequence[asyncio.StreamWriter]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for writer in writers:
        writer.close()


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    # A pipe that is not read to its end stays open for as long as somebody might read it.
    for stream in (process.stdout, process.stderr):
        while stream is not None and await stream.read(_PIECE_BYTES):
            pass
    await process.wait()
