"""Schedules of faults: `python -m tests.bench.faults [--minutes 10] [--seed 1] [--seconds 20] [--planted NAME] [--strict]`.

Every seed is a world of its own: real Postgres, two task managers, two stand-in trainers with real processes, a proxy on every
wire. Prints what happened under each seed and, as the last line, all of it as JSON; exit code 1 when a promise was broken.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psycopg

from services.common import logs
from tests.bench.task_tables import postgres
from tests.faults.schedule import play


def main() -> None:
    """Until the time is over; at least one seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--seconds", type=float, default=20.0, help="of trouble under each seed")
    parser.add_argument("--planted", default="", help="a mistake that both task managers make, to see it found")
    parser.add_argument("--strict", action="store_true", help="trainers end runs that nobody asks for")
    arguments = parser.parse_args()
    logs.configure("faults", "error")
    sums, broken, seed, started = Counter[str](), list[str](), arguments.seed, time.monotonic()
    with postgres() as dsn:
        while seed == arguments.seed or time.monotonic() - started < arguments.minutes * 60:
            found, tally = one(dsn, seed, arguments)
            broken += found
            sums.update(tally)
            seed += 1
    print(json.dumps({"seeds": seed - arguments.seed, "broken": broken, "tally": sums}))
    sys.exit(bool(broken))


def one(dsn: str, seed: int, arguments: argparse.Namespace) -> tuple[list[str], Counter[str]]:
    """A seed in a database of its own."""
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE seed_{seed}")
    with tempfile.TemporaryDirectory(prefix="faults") as directory:
        own = dsn.rsplit("/", 1)[0] + f"/seed_{seed}"
        wanted = {"planted": arguments.planted, "strict": arguments.strict}
        played = asyncio.run(play(own, Path(directory), seed, seconds=arguments.seconds, **wanted))
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE seed_{seed} WITH (FORCE)")
    print(f"seed {seed}: {dict(sorted(played.tally.items()))}", flush=True)
    for line in played.broken:
        print(f"  BROKEN {line}", flush=True)
    return [f"seed {seed}: {line}" for line in played.broken], Counter(played.tally)


if __name__ == "__main__":
    main()
