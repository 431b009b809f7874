"""`python -m services.trainer.supervisor RUN_DIRECTORY`: owns the processes of one run from start to end, whatever happens to the
trainer that started it. Standard library only: it starts in a fraction of a second and takes little memory for days. Without a
directory it waits for its run with a rank that is ready (`waiting`).

SIGTERM cancels. The exit code is 0 when the journal tells the end, 1 when it does not.
"""

import argparse
import json
import os
import pathlib
import sys
import time

from services.common.parenthood import adopt_orphans
from services.trainer import processes, ranks
from services.trainer.cgroup import own_group
from services.trainer.contact import Fence, Silence
from services.trainer.journal import Journal, JournalBusy
from services.trainer.journal_reader import read
from services.trainer.ranks import Launch
from services.trainer.stalls import StallWatch
from services.trainer.supervision import Supervision
from services.trainer.waiting import wait_for_run
from services.trainer.warm_start import WarmRank

_LOCK_SECONDS = 10.0


def main() -> int:
    """Supervises one run, perhaps one that is still to come; returns the exit code."""
    arguments = _arguments()
    if arguments.directory is not None:
        return supervise(arguments.directory.resolve(), arguments, None)
    warm = ranks.start_warm(arguments.module, arguments.imports, arguments.threads, arguments.base)
    directory = wait_for_run(warm)
    if directory is None:
        warm.dismiss()
        return 0
    return supervise(directory, arguments, warm)


def supervise(directory: pathlib.Path, arguments: argparse.Namespace, warm: WarmRank | None) -> int:
    """To the end of the run; returns the exit code."""
    path = directory / "journal.jsonl"
    journal = _own(path)
    if journal is None or any(record.get("control") in ("started", "end") for record in read(path)):
        print("supervisor: the run has ended, or has another supervisor", file=sys.stderr)  # noqa: T201
        return 1
    with journal, own_group(directory.name, [warm.process.pid] if warm else []) as group:
        adopt_orphans()
        # Only fine-tuning has numbers, and with them several processes.
        numbers = json.loads((directory / "config.json").read_text()).get("hyperparameters") or {}
        launch = Launch(directory, arguments.module, int(numbers.get("num_processes") or 1), arguments.threads)
        Supervision(
            journal,
            launch,
            grace=arguments.grace,
            clock=time.monotonic,
            stalls=StallWatch(arguments.stall_floor, time.monotonic),
            ends_stalls=numbers.get("stall_policy") == "fail",
            warm=warm,
            silence=Silence(Fence(arguments.contact, arguments.fence)) if arguments.fence else None,
        ).run(identity=processes.identify(os.getpid()), group=group)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="services.trainer.supervisor")
    parser.add_argument(
        "directory", type=pathlib.Path, nargs="?", help="the run's directory; without it, it comes on standard input"
    )
    parser.add_argument("--imports", default="", help="module that imports what a rank needs, while there is no run yet")
    parser.add_argument("--base", default="", help="base model that a rank reads, while there is no run yet")
    parser.add_argument("--module", default="services.trainer.training", help="what a rank runs")
    parser.add_argument("--threads", type=int, default=1, help="OMP_NUM_THREADS of a rank")
    parser.add_argument("--grace", type=float, default=10.0, help="seconds between SIGTERM and SIGKILL")
    parser.add_argument("--contact", type=pathlib.Path, help="where the trainer writes when it is asked for anything")
    parser.add_argument("--fence", type=float, default=0.0, help="seconds without that which end the run; 0 = none do")
    parser.add_argument("--stall-floor", type=float, default=600.0, help="seconds of silence that are never a stall")
    return parser.parse_args()


def _own(path: pathlib.Path) -> Journal | None:
    # Whoever started this lets go of the journal at about the same time, and others look at the lock now and then.
    deadline = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < deadline:
        try:
            return Journal.open(path)
        except JournalBusy:
            time.sleep(0.02)
    return None


if __name__ == "__main__":
    sys.exit(main())
