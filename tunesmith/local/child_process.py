"""One supervised child: started when what it needs is ready, restarted with back-off, stopped with patience."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tunesmith.local.errors import LocalError

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 10.0
STEADY_AFTER_SECONDS = 30.0  # a child that was ready this long starts again without the delays of before
DEATHS_BEFORE_GIVING_UP = 3  # only while it was never ready: something is wrong that a restart does not mend
PROBE_INTERVAL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run and how to treat it."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    is_ready: Callable[[], Awaitable[bool]]
    needs: tuple[str, ...] = ()
    """Started after these are ready, stopped before them."""
    stopped_before: tuple[str, ...] = ()
    """Started beside these, and yet stopped before them."""
    prefix: tuple[str, ...] = ()
    """Put before the supervisor's shim, for example to enter a namespace."""
    stop_signal: signal.Signals = signal.SIGTERM
    """Sent on the final stop, and by the kernel when the supervisor dies."""
    patience_seconds: float = 15.0
    prepare: Callable[[], None] | None = None
    """Blocking work before every start, for example clearing a stale lock file."""


class Child:
    """Runs one ChildSpec until stopped. `ready` is set from its first good probe to its death, then `died` is."""

    def __init__(self, spec: ChildSpec, log_path: Path, report: Callable[[str, str], None]) -> None:
        self.spec = spec
        self.log_path = log_path
        self.ready = asyncio.Event()
        self.died = asyncio.Event()
        self.restarts = 0
        self.seconds_to_ready = 0.0
        self._report = report
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._was_ready = False

    @property
    def pid(self) -> int | None:
        """Its pid while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def supervise(self, needs: list["Child"]) -> None:
        """Keep it running.

        Raises:
            LocalError: SERVICE_DIES when it keeps dying before it was ever ready.
        """
        delay = FIRST_DELAY_SECONDS
        while not self._stopping:
            for other in needs:
                await other.ready.wait()
            steady = await self._run_once()
            if self._stopping:
                return
            self.restarts += 1
            if not self._was_ready and self.restarts >= DEATHS_BEFORE_GIVING_UP:
                raise self._hopeless()
            delay = FIRST_DELAY_SECONDS if steady else delay
            self._report(self.spec.name, f"{self._ending()}; starting it again in {delay:g} s")
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)

    async def stop(self, *, hurry: bool = False) -> None:
        """End it: its stop signal, then SIGKILL to its group when patience is over. Does nothing when it does not run."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL if hurry else self.spec.stop_signal)
        try:
            await asyncio.wait_for(process.wait(), self.spec.patience_seconds)
        except TimeoutError:
            self._report(self.spec.name, f"did not stop within {self.spec.patience_seconds:g} s: killed")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also what it left in its group
        await process.wait()

    async def _run_once(self) -> bool:
        """From start to death; True when it was ready for long."""
        started = time.monotonic()
        self._process = await self._start()
        if self._stopping:  # the stop came while it was being started
            await self.stop(hurry=True)
        exited = asyncio.create_task(self._process.wait(), name=f"{self.spec.name} exit")
        probe = asyncio.create_task(self._watch_readiness(started), name=f"{self.spec.name} probe")
        try:
            await asyncio.wait({exited})
            return self.ready.is_set() and time.monotonic() - started > STEADY_AFTER_SECONDS
        finally:
            self.ready.clear()
            self.died.set()
            probe.cancel()
            exited.cancel()
            await asyncio.gather(probe, exited, return_exceptions=True)

    async def _start(self) -> asyncio.subprocess.Process:
        if self.spec.prepare:
            await asyncio.to_thread(self.spec.prepare)
        shim = (sys.executable, "-P", "-m", "tunesmith.local.child", self.spec.stop_signal.name, str(os.getpid()))
        with self.log_path.open("ab") as log:  # straight to the file: a paused terminal never blocks a service
            return await asyncio.create_subprocess_exec(
                *self.spec.prefix,
                *shim,
                *self.spec.command,
                env=dict(self.spec.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is the supervisor's alone
            )

    async def _watch_readiness(self, started: float) -> None:
        while not await self.spec.is_ready():  # noqa: ASYNC110  # another process, so there is no event to wait for
            await asyncio.sleep(PROBE_INTERVAL_SECONDS)
        self.seconds_to_ready = time.monotonic() - started
        self._was_ready = True
        self.died.clear()
        self.ready.set()

    def _ending(self) -> str:
        code = self._process.returncode if self._process else None
        if code is not None and code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def _hopeless(self) -> LocalError:
        lines = self.log_path.read_text(errors="replace").splitlines()[-8:]
        tail = "".join(f"\n    {line}" for line in lines)
        return LocalError(
            "SERVICE_DIES",
            f"{self.spec.name} {self._ending()}, {self.restarts} times in a row; its last lines:{tail}",
            f"The whole log: {self.log_path}",
        )
