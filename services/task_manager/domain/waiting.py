"""Why a task waits, in one sentence; used when a waiting task is read."""

import datetime
from collections.abc import Sequence

from services.task_manager.domain.schedule import Machine


def reason(
    processes: int,
    not_before: datetime.datetime | None,
    machines: Sequence[Machine],
    silent: Sequence[str],
    now: datetime.datetime,
    *,
    held: int = 0,
    quota: int = 0,
) -> str:
    """`machines` are the trainers that answer, `silent` the addresses of those that do not.

    `held`: processes of the task's project, which may hold `quota` of them, 0 = any number.
    """
    if not_before and not_before > now:
        return f"waits until {not_before.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
    if quota and held + processes > quota:
        return f"waits for its project, which holds {held} of {quota} processes; it needs {processes}"
    if not machines:
        return f"waits for a trainer: {', '.join(silent)} does not answer"
    return _room(processes, machines, silent)


def _room(processes: int, machines: Sequence[Machine], silent: Sequence[str]) -> str:
    largest, free = max(one.total for one in machines), max(one.free for one in machines)
    # One that is silent may be the largest.
    if processes > largest and not silent:
        return f"needs {processes} processes; the largest trainer has {largest}"
    if processes > free > 0:
        return f"needs {processes} processes on one trainer; {free} {'is' if free == 1 else 'are'} free"
    if processes <= free:
        return "waits for its turn: room is kept for tasks before it"
    return f"waits for a free trainer; {', '.join(silent)} does not answer" if silent else "waits for a free trainer"
