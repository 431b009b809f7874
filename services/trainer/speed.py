"""The arithmetic speed of this machine, measured once while no run is active and kept in the data directory; used by the servicer
and started by `__main__`."""

import asyncio
import contextlib
import importlib.metadata
import json
import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import structlog

log = structlog.get_logger()

_PAUSE_SECONDS = 2.0
_LOOK_SECONDS = 0.1
_MOST_SECONDS = 120.0


class Speed:
    """Measures by `python -m module` with so many threads. An empty module never measures."""

    def __init__(self, path: pathlib.Path, *, module: str, threads: int, pause: float = _PAUSE_SECONDS) -> None:
        self._path = path
        self._module = module
        self._conditions = {"torch": _torch_version(), "threads": threads}
        self._pause = pause
        self.flops_per_second = self._stored()
        """0 = not measured yet."""

    async def measure(self, is_idle: Callable[[], bool]) -> None:
        """Until the speed is known or cannot be; a measurement during which a run begins is ended at once and repeated later."""
        while self._module and not self.flops_per_second:
            await asyncio.sleep(self._pause)
            if is_idle() and not await self._try(is_idle):
                return

    async def _try(self, is_idle: Callable[[], bool]) -> bool:
        """Whether another try makes sense, should the speed still be unknown."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", self._module),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=_environment(self._conditions["threads"]),
        )
        answer = asyncio.ensure_future(process.communicate())
        try:
            async with asyncio.timeout(_MOST_SECONDS):
                while not answer.done():
                    if not is_idle():
                        return True
                    await asyncio.wait({answer}, timeout=_LOOK_SECONDS)
        except TimeoutError:
            log.warning("speed.not_measured", detail=f"no answer within {_MOST_SECONDS:g} s")
            return False
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            # The zombie goes with this, also when nobody wants the answer any more.
            await answer
        return self._take(answer.result()[0], process.returncode)

    def _take(self, output: bytes, code: int | None) -> bool:
        try:
            flops = float(json.loads(output)["flops_per_second"])
            self._path.write_text(json.dumps({**self._conditions, "flops_per_second": flops}))
        except (ValueError, KeyError, TypeError, OSError) as error:
            log.warning("speed.not_measured", exit_code=code, detail=str(error))
            return False
        self.flops_per_second = flops
        log.info("speed.measured", gflops_per_second=round(flops / 1e9, 1))
        return True

    def _stored(self) -> float:
        try:
            value: Mapping[str, Any] = json.loads(self._path.read_text())
            conditions = {name: value[name] for name in self._conditions}
            return float(value["flops_per_second"]) if conditions == self._conditions else 0.0
        except (OSError, ValueError, KeyError, TypeError):
            return 0.0


def _torch_version() -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("torch")
    return ""


def _environment(threads: object) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TUNESMITH_")}
    return inherited | {"OMP_NUM_THREADS": str(threads)}
