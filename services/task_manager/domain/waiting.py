"""Why a task waits, in one sentence; used when a waiting task is read."""

import datetime
from collections.abc import Iterator, Mapping, Sequence

from services.task_manager.domain.schedule import Machine


def reason(
    processes: int,
    not_before: datetime.datetime | None,
    machines: Sequence[Machine],
    silent: Sequence[str],
    now: datetime.datetime,
    *,
    unfit: Mapping[str, str] | None = None,
    held: int = 0,
    quota: int = 0,
) -> str:
    """`machines` are the trainers that answer and fit, `silent` the addresses of those that do not answer.

    `unfit`: versions by address of those that answer and get no runs, as their version is not compatible.
    `held`: processes of the task's project, which may hold `quota` of them, 0 = any number.
    """
    if not_before and not_before > now:
        return f"waits until {not_before.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
    if quota and held + processes > quota:
        return f"waits for its project, which holds {held} of {quota} processes; it needs {processes}"
    absent = " and ".join(_absent(silent, unfit or {}))
    if not machines:
        return f"waits for a trainer: {absent}"
    return _room(processes, machines, absent)


def _absent(silent: Sequence[str], unfit: Mapping[str, str]) -> Iterator[str]:
    if silent:
        yield f"{', '.join(silent)} does not answer"
    for address, version in sorted(unfit.items()):
        yield f"{address} has version {version}, which does not fit the task manager's"


def _room(processes: int, machines: Sequence[Machine], absent: str) -> str:
    largest, free = max(one.total for one in machines), max(one.free for one in machines)
    # One that is absent may be the largest.
    if processes > largest and not absent:
        return f"needs {processes} processes; the largest trainer has {largest}"
    if processes > free > 0:
        return f"needs {processes} processes on one trainer; {free} {'is' if free == 1 else 'are'} free"
    if processes <= free:
        return "waits for its turn: room is kept for tasks before it"
    return f"waits for a free trainer; {absent}" if absent else "waits for a free trainer"
