"""The retention state machine for as long as one likes: `python -m tests.bench.retention [--steps 1000000]`.

The same machine as in the tests, in memory: users, sweeps, kills at every step, clock jumps, exports, pins, scrubs. It ends at
the first broken promise with the shortest history that breaks it.
"""

import argparse
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from unit.storage.test_retention_machine import sixty_days


def main() -> None:
    """Prints how many steps held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    steps = parser.parse_args().steps
    started, load = time.perf_counter(), os.getloadavg()[0]
    sixty_days(steps)
    print(
        f"{steps:,} steps in {steps // 50:,} lives, every promise kept, {time.perf_counter() - started:.0f} s (load {load:.1f})"
    )


if __name__ == "__main__":
    main()
