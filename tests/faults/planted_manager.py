"""A task manager with a planted mistake: `TUNESMITH_TEST_PLANTED=NAME python -m tests.faults.planted_manager`."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from services.task_manager.__main__ import main
from tests.faults.planted import BUGS

if __name__ == "__main__":
    BUGS[os.environ["TUNESMITH_TEST_PLANTED"]].plant(setattr)
    main()
