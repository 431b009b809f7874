"""A task manager whose clock is wrong by SHIFT_SECONDS: `python -m tests.faults.shifted_manager`."""

import datetime
import os
import time

SHIFT = float(os.environ.get("TUNESMITH_TEST_SHIFT_SECONDS", "0"))
_time = time.time


class Shifted(datetime.datetime):
    """The same class to everybody, another time of day."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
        """Wrong."""
        return datetime.datetime.fromtimestamp(_time() + SHIFT, tz)


if __name__ == "__main__":
    time.time = lambda: _time() + SHIFT
    # psycopg and protobuf keep the class that they have imported, the task manager looks it up each time.
    from services.task_manager.__main__ import main

    datetime.datetime = Shifted  # type: ignore[misc]
    main()
