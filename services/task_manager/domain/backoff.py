"""How long a task rests between two attempts that ended through no fault of its own."""

import datetime

_LONGEST = datetime.timedelta(minutes=5)


def rest(lost_runs: int, first: datetime.timedelta) -> datetime.timedelta:
    """Before the attempt that follows the `lost_runs`-th loss, from 1: `first`, doubled with each loss, at most 5 minutes."""
    # Beyond 2^20 every rest is the longest, and a larger shift would only overflow.
    return min(first * (1 << min(lost_runs - 1, 20)), max(first, _LONGEST))
