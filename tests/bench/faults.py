"""Schedules of faults: `python -m tests.bench.faults [--minutes 10] [--seed 1] [--seconds 20] [--planted NAME] [--strict]`.

With `--outage` everything has its default settings, and a database and an object store are away for a literal minute.

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
from collections.abc import Mapping
from pathlib import Path

import psycopg

from services.common import logs
from tests.bench.task_tables import postgres
from tests.faults.outage import play_outage
from tests.faults.schedule import Played, play


def main() -> None:
    """Until the time is over; at least one seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--seconds", type=float, default=20.0, help="of trouble under each seed")
    parser.add_argument("--planted", default="", help="a mistake that both task managers make, to see it found")
    parser.add_argument("--strict", action="store_true", help="trainers end runs that nobody asks for")
    parser.add_argument("--outage", action="store_true", help="Postgres and S3 are away for 60 s, nothing is scaled")
    arguments = parser.parse_args()
    logs.configure("faults", "error")
    sums, broken, worst = Counter[str](), list[str](), dict[str, float]()
    seed, started = arguments.seed, time.monotonic()
    with postgres() as dsn:
        while seed == arguments.seed or time.monotonic() - started < arguments.minutes * 60:
            played = one(dsn, seed, arguments)
            broken += [f"seed {seed}: {line}" for line in played.broken]
            sums.update(played.tally)
            worst |= {name: max(value, worst.get(name, value)) for name, value in played.figures.items()}
            seed += 1
    print(json.dumps({"seeds": seed - arguments.seed, "broken": broken, "tally": sums, "worst": _rounded(worst)}))
    sys.exit(bool(broken))


def one(dsn: str, seed: int, arguments: argparse.Namespace) -> Played:
    """A seed in a database of its own."""
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE seed_{seed}")
    with tempfile.TemporaryDirectory(prefix="faults") as directory:
        played = asyncio.run(_play(dsn.rsplit("/", 1)[0] + f"/seed_{seed}", Path(directory), seed, arguments))
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE seed_{seed} WITH (FORCE)")
    print(f"seed {seed}: {dict(sorted(played.tally.items()))} {_rounded(played.figures)}", flush=True)
    for line in played.broken:
        print(f"  BROKEN {line}", flush=True)
    return played


async def _play(dsn: str, directory: Path, seed: int, arguments: argparse.Namespace) -> Played:
    if arguments.outage:
        return await play_outage(dsn, directory, seed)
    wanted = {"planted": arguments.planted, "strict": arguments.strict}
    return await play(dsn, directory, seed, seconds=arguments.seconds, **wanted)


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 1) for name, value in figures.items()}


if __name__ == "__main__":
    main()
