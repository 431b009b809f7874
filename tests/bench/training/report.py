"""The table of results, as Markdown."""

import datetime
import os
import platform
from collections.abc import Mapping, Sequence

from tests.bench.training.result import Result


def heading(cores: int | None = None) -> str:
    """When and on what kind of machine."""
    today = datetime.datetime.now(datetime.UTC).date()
    return f"## {today:%d %B %Y}, {cores or os.cpu_count()} cores\n\nPython {platform.python_version()}, {_processor()}."


def table(results: Mapping[str, Result], ours: str) -> str:
    """One row per variant, speeds relative to ours. Options of ours begin with its name; peers are not compared with them."""
    rows = [_row(name, result, None if name.startswith(ours) else results[ours]) for name, result in results.items()]
    head = "| trainer | target tokens/s | we are faster by | seconds per step | of all threads | peak RSS, GB | loss by step |"
    return "\n".join((head, "|---|---|---|---|---|---|---|", *rows))


def _row(name: str, result: Result, ours: Result | None) -> str:
    ratio = "" if ours is None else f"{ours.targets_per_second / result.targets_per_second:.2f}x"
    seconds = f"{result.seconds_per_step:.2f} | {result.cpu_seconds_per_step:.2f}"
    numbers = f"{result.targets_per_second:.1f} | {ratio} | {seconds} | {result.peak_rss / 1e9:.2f}"
    return f"| {name} | {numbers} | {_curve(result.losses)} |"


def _curve(losses: Sequence[float]) -> str:
    return " ".join(f"{loss:.3f}" for loss in losses)


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = [flag for flag in ("avx2", "avx512f", "amx_tile") if flag in found.get("flags", "").split()]
    return f"{found.get('model name', platform.machine())} ({', '.join(flags)})"
