"""Keeps a set of children running, in the order of their needs, and ends all of them; used by `tunesmith up`."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path

import psutil

from tunesmith.local.child_process import Child, ChildSpec
from tunesmith.local.errors import LocalError
from tunesmith.local.processes import adopt_orphans, end, identify, reap_orphans, with_descendants

REAP_INTERVAL_SECONDS = 0.2
ORPHAN_PATIENCE_SECONDS = 5.0


class Supervisor:
    """Runs children until told to stop. `report(name, text)` is called for what a person should see."""

    def __init__(self, specs: Sequence[ChildSpec], logs: Path, report: Callable[[str, str], None]) -> None:
        self.children = {spec.name: Child(spec, logs / f"{spec.name}.log", report) for spec in specs}
        # Children this process had before are somebody else's: neither collected nor ended here.
        self._foreign = frozenset(process.pid for process in psutil.Process().children())
        self._hurry = False
        self._stopping: list[Child] = []

    async def run(self, on_ready: Callable[[Child], None], body: Coroutine[None, None, None], stop: asyncio.Event) -> None:
        """Start all, call `on_ready` for each whenever it becomes ready, run `body` beside them, end all once `stop` is set.

        Raises:
            LocalError: from a child that cannot be kept running, or from `body`; everything is stopped then, too.
        """
        adopt_orphans()
        children = self.children.values()
        tasks = [asyncio.create_task(self._supervise(child), name=f"{child.spec.name} supervision") for child in children]
        watchers = [asyncio.create_task(_announce(child, on_ready), name=f"{child.spec.name} ready") for child in children]
        reaper = asyncio.create_task(self._reap(), name="reaper")
        work = asyncio.create_task(body, name="body")
        stopped = asyncio.create_task(_until(stop), name="stop")
        try:
            await _first_failure_or({work, *tasks}, stopped)
        finally:
            await _cancel([work, stopped, *watchers])
            await self._stop_all()
            await _cancel([*tasks, reaper])
            await asyncio.to_thread(_end_leftovers, self._foreign)

    async def wait_ready(self, timeout_seconds: float) -> None:
        """Return when every child is ready.

        Raises:
            LocalError: STACK_NOT_READY names those that are not after the timeout.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                for child in self.children.values():
                    await child.ready.wait()
        except TimeoutError as late:
            missing = ", ".join(name for name, child in self.children.items() if not child.ready.is_set())
            message = f"not ready after {timeout_seconds:g} s: {missing}"
            raise LocalError("STACK_NOT_READY", message, "Look into the logs directory of the data directory.") from late

    def hurry(self) -> None:
        """Stop without patience: what is being stopped is killed now."""
        self._hurry = True
        for child in self._stopping:
            if child.pid:
                with contextlib.suppress(psutil.NoSuchProcess):
                    psutil.Process(child.pid).kill()

    async def _supervise(self, child: Child) -> None:
        await child.supervise([self.children[name] for name in child.spec.needs if name in self.children])

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(REAP_INTERVAL_SECONDS)
            own = {child.pid for child in self.children.values() if child.pid}
            reap_orphans(own | self._foreign)

    async def _stop_all(self) -> None:
        """Dependents first, each tier together."""
        for tier in reversed(self._tiers()):
            self._stopping = tier
            await asyncio.gather(*(child.stop(hurry=self._hurry) for child in tier))
        self._stopping = []

    def _relies_on(self, child: Child) -> set[str]:
        return {*child.spec.needs, *child.spec.stopped_before} & set(self.children)

    def _tiers(self) -> list[list[Child]]:
        tiers: list[list[Child]] = []
        placed: set[str] = set()
        waiting = dict(self.children)
        while waiting:
            tier = [child for child in waiting.values() if self._relies_on(child) <= placed]
            tiers.append(tier)
            for child in tier:
                placed.add(child.spec.name)
                del waiting[child.spec.name]
        return tiers


def _end_leftovers(foreign: frozenset[int]) -> None:
    """Whatever a service left behind has become ours: see `adopt_orphans`."""
    ours = (identify(process.pid) for process in psutil.Process().children() if process.pid not in foreign)
    end(with_descendants(filter(None, ours)), ORPHAN_PATIENCE_SECONDS)


async def _announce(child: Child, on_ready: Callable[[Child], None]) -> None:
    while True:
        await child.ready.wait()
        on_ready(child)
        await child.died.wait()


async def _until(event: asyncio.Event) -> None:
    await event.wait()


async def _first_failure_or(tasks: set["asyncio.Task[None]"], stopped: "asyncio.Task[None]") -> None:
    """Return once `stopped` is done; raise what the first failing task raised."""
    pending = {stopped, *tasks}
    while not stopped.done():
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


async def _cancel(tasks: Sequence["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
