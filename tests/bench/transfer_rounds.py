"""Ways to move the same bytes, measured by turns so that their shares can be trusted; used by `tests.bench.storage`.

What made earlier figures differ from run to run, and is kept out of the measured time: dirty pages of the transfer before, which
the system writes back meanwhile; the truncation of the file of the transfer before; and free memory that a virtual machine has
given back to its host (free page reporting), whose first use costs several times as much and counts as time of who comes first.
"""

import dataclasses
import mmap
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

_WARM_BYTES = 2**30


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """One transfer."""

    seconds: float
    grown_mib: float
    """By which the storage service has grown at most."""
    processor: Sequence[float]
    """Seconds of client, storage and S3 server."""


Way = Callable[[], None]
Rounds = Mapping[str, Sequence[Measured]]


def settle() -> None:
    """Nothing is left to write back, and a gibibyte of free memory is the machine's own."""
    os.sync()
    with mmap.mmap(-1, _WARM_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        for start in range(0, _WARM_BYTES, mmap.PAGESIZE):
            memory[start] = 1


def in_turns(ways: Sequence[str], number: int) -> Iterator[str]:
    """Every way once, another one first in every round."""
    first = number % len(ways)
    yield from (*ways[first:], *ways[:first])


def table(rounds: Rounds, size_mib: int) -> Iterator[str]:
    """Lines of Markdown; the first way is what the others are compared with, round by round."""
    spread = "MiB/s: median (least to most) | of the SDK's: median (quartiles)"
    yield f"| way | {spread} | peak of storage, MiB | CPU seconds: client, storage, S3 server |"
    yield "|---|---|---|---|---|"
    first = next(iter(rounds.values()))
    for way, measured in rounds.items():
        speeds = [size_mib / each.seconds for each in measured]
        shares = [beside.seconds / each.seconds for beside, each in zip(first, measured, strict=True)]
        low, middle, high = statistics.quantiles(shares, n=4, method="inclusive")
        spent = ", ".join(f"{statistics.median(each):.2f}" for each in zip(*(each.processor for each in measured), strict=True))
        yield (
            f"| {way} | {statistics.median(speeds):.0f} ({min(speeds):.0f} to {max(speeds):.0f})"
            f" | {middle:.2f} ({low:.2f} to {high:.2f}) | {max(each.grown_mib for each in measured):.0f} | {spent} |"
        )
