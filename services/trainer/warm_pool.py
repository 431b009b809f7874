"""Supervisors that wait with a rank whose imports are done, so that a run begins seconds earlier; used by the launcher.

They are made while no run is active, since importing would take from it what it needs. Losing one costs nothing but the time, so
they make room for every run that has no use for them.
"""

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

import structlog

from services.common.blocking import in_thread

log = structlog.get_logger()

_LOOK_SECONDS = 0.5
_MOST_SECONDS = 300.0
_AFTER_FAILURE_SECONDS = 60.0


@dataclasses.dataclass(slots=True, eq=False)
class _Waiting:
    supervisor: subprocess.Popen[bytes]
    rank_pid: int = 0
    """0 = its imports are not done yet."""


class WarmPool:
    """Keeps `count` of them; `options` are a supervisor's, for a run of one process; `imports` is what its rank imports."""

    def __init__(self, count: int, options: Sequence[str], imports: str) -> None:
        self._count = count
        self._command = [sys.executable, "-m", "services.trainer.supervisor", *options, "--imports", imports]
        self._waiting: list[_Waiting] = []
        # Runs are launched from other threads.
        self._lock = threading.Lock()

    def take(self, directory: pathlib.Path) -> subprocess.Popen[bytes] | None:
        """Gives the run in `directory` to one that waits, the readiest first; None = there is none."""
        while (one := self._readiest()) is not None:
            if _told(one.supervisor, directory):
                return one.supervisor
            _dismiss(one.supervisor)
        return None

    def _readiest(self) -> _Waiting | None:
        """Takes it out of the pool."""
        with self._lock:
            found = min(self._waiting, key=lambda each: each.rank_pid == 0, default=None)
            if found is not None:
                self._waiting.remove(found)
            return found

    def make_room(self) -> None:
        """Ends all that wait, for a run that needs their memory."""
        while (one := self._readiest()) is not None:
            _dismiss(one.supervisor)

    async def keep(self, is_idle: Callable[[], bool], base: Callable[[], pathlib.Path | None]) -> None:
        """Until cancelled; then none is left. `base` says which base model a new one reads beforehand."""
        try:
            while self._count:
                self._bury()
                if len(self._waiting) < self._count and is_idle() and not await self._add(base()):
                    await asyncio.sleep(_AFTER_FAILURE_SECONDS)
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            self.make_room()

    @property
    def ready_count(self) -> int:
        """Those whose imports are done."""
        return sum(one.rank_pid > 0 and one.supervisor.poll() is None for one in self._waiting)

    @property
    def memory_bytes(self) -> int:
        """Main memory that the ranks which wait take by themselves."""
        return sum(_private_bytes(one.rank_pid) for one in self._waiting if one.rank_pid)

    async def _add(self, base: pathlib.Path | None) -> bool:
        """Whether one more waits, or would, had it not been taken before it was ready."""
        try:
            one = await in_thread(self._start, base)
        except OSError as error:
            log.warning("warm.not_started", detail=str(error))
            return False
        assert one.supervisor.stdout is not None
        try:
            async with asyncio.timeout(_MOST_SECONDS):
                line = await asyncio.to_thread(one.supervisor.stdout.readline)
        except TimeoutError:
            line = b""
        if line.strip().isdigit():
            one.rank_pid = int(line)
        elif self._remove(one):
            _dismiss(one.supervisor)
            log.warning("warm.not_ready", exit_code=one.supervisor.returncode)
            return False
        else:
            return True
        log.info("warm.ready", memory_bytes=_private_bytes(one.rank_pid))
        return True

    def _start(self, base: pathlib.Path | None) -> _Waiting:
        """In the pool at once: whoever is cancelled while this is under way finds it there."""
        started = subprocess.Popen(
            [*self._command, "--base", str(base or "")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            # The trainer's own settings hold keys; training code, and whatever it prints, must not see them.
            env={name: value for name, value in os.environ.items() if not name.startswith("TUNESMITH_")},
            start_new_session=True,
        )
        one = _Waiting(started)
        with self._lock:
            self._waiting.append(one)
        return one

    def _bury(self) -> None:
        for one in [one for one in self._waiting if one.supervisor.poll() is not None]:
            if self._remove(one):
                log.info("warm.lost", exit_code=one.supervisor.returncode)
                _dismiss(one.supervisor)

    def _remove(self, one: _Waiting) -> bool:
        """Whether it was still in the pool."""
        with self._lock:
            if one not in self._waiting:
                return False
            self._waiting.remove(one)
            return True


def _told(supervisor: subprocess.Popen[bytes], directory: pathlib.Path) -> bool:
    """Whether the supervisor could be told of its run."""
    pipe = supervisor.stdin
    assert pipe is not None
    with contextlib.suppress(OSError):
        pipe.write(os.fsencode(directory) + b"\n")
        pipe.close()
        return supervisor.poll() is None
    return False


def _dismiss(supervisor: subprocess.Popen[bytes]) -> None:
    """It ends its rank, which would end with it anyway."""
    supervisor.kill()
    supervisor.wait()
    for pipe in (supervisor.stdin, supervisor.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _private_bytes(pid: int) -> int:
    """What a process would give back: pages that no file holds; 0 = it is gone."""
    with contextlib.suppress(OSError):
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)
    return 0
