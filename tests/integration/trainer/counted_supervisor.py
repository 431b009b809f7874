"""The supervisor of a machine whose kernel counts its kills in a file `vmstat` of the run's directory."""

import functools
import pathlib
import sys

from services.trainer import supervisor
from services.trainer.kernel_kills import out_of_memory_kills

if __name__ == "__main__":
    counters = pathlib.Path(sys.argv[1]) / "vmstat"
    supervisor.Supervision = functools.partial(supervisor.Supervision, kernel_kills=lambda: out_of_memory_kills(counters))
    sys.exit(supervisor.main())
