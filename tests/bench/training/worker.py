"""`python -m tests.bench.training.worker JOB`: one variant in a process of its own; its last line is what it measured."""

import json
import resource
import sys
from dataclasses import asdict
from itertools import pairwise

from tests.bench.training.job import Job, Measured


def main() -> None:
    """Run the job and print."""
    job = Job.from_json(sys.argv[1])
    print("\n" + json.dumps(asdict(measure(job))), flush=True)


def measure(job: Job) -> Measured:
    """The first step is left out: it warms up."""
    if job.variant.startswith(OURS):
        from tests.bench.training import ours
        from tests.bench.training.tokens import in_order

        times, losses = ours.run(job)
        targets = [sum(len(text.targets) for text in step) for step in in_order(job)]
    else:
        from tests.bench.training import peers

        times, losses, targets = peers.run(job)
    seconds = tuple(end.wall - begin.wall for begin, end in pairwise(times))
    cpu_seconds = tuple(end.cpu - begin.cpu for begin, end in pairwise(times))
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Measured(seconds, cpu_seconds, tuple(targets[1:]), tuple(losses[1:]), rss)


OURS = "Tunesmith"

if __name__ == "__main__":
    main()
