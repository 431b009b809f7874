"""A task manager for strict stand-ins, with its patience at a fifteenth: `python -m tests.faults.strict_manager`.

`TUNESMITH_TEST_PLANTED=NAME` plants a mistake, as in `planted_manager`.
"""

import datetime
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from services.task_manager.__main__ import main
from services.task_manager.domain import attempt
from tests.faults.planted import BUGS

if __name__ == "__main__":
    attempt.LOST_ANSWER = datetime.timedelta(seconds=3)
    if planted := os.environ.get("TUNESMITH_TEST_PLANTED"):
        BUGS[planted].plant(setattr)
    main()
