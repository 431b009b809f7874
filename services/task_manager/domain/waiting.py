"""Why a task waits, in one sentence; used when a waiting task is read, and when one is planned."""

import dataclasses
import datetime
from collections.abc import Iterator, Mapping, Sequence

from services.task_manager.domain.placement import Machine, Need, gigabytes, labels_text, why_none_suits


@dataclasses.dataclass(frozen=True, slots=True)
class Trainers:
    """Who could take a task: `machines` answer and get runs, the addresses in `silent` do not answer."""

    machines: Sequence[Machine] = ()
    silent: Sequence[str] = ()
    unfit: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Versions by address of those that answer and get no runs, as their version is not compatible."""


def reason(
    need: Need,
    not_before: datetime.datetime | None,
    trainers: Trainers,
    now: datetime.datetime,
    *,
    held: int = 0,
    quota: int = 0,
) -> str:
    """`held`: processes of the task's project, which may hold `quota` of them, 0 = any number."""
    if not_before and not_before > now:
        return f"waits until {not_before.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
    if quota and held + need.processes > quota:
        return f"waits for its project, which holds {held} of {quota} processes; it needs {need.processes}"
    absent = " and ".join(_absent(trainers))
    if not trainers.machines:
        return f"waits for a trainer: {absent}"
    if never := why_none_suits(need, trainers.machines):
        # One that is absent may be the one.
        return f"{never}; {absent}" if absent else never
    return _room(need, [machine for machine in trainers.machines if machine.suits(need)], absent)


def plan_warning(need: Need, trainers: Trainers) -> str:
    """What a plan says of a task that no trainer that is there could ever take; empty when one could, or none answers."""
    if not (never := why_none_suits(need, trainers.machines)):
        return ""
    absent = f" {'; '.join(_absent(trainers))}." if trainers.silent or trainers.unfit else ""
    return f"The task would wait until there is another trainer: {never}.{absent}"


def _absent(trainers: Trainers) -> Iterator[str]:
    if trainers.silent:
        yield f"{', '.join(trainers.silent)} does not answer"
    for address, version in sorted(trainers.unfit.items()):
        yield f"{address} has version {version}, which does not fit the task manager's"


def _room(need: Need, machines: Sequence[Machine], absent: str) -> str:
    """`machines` suit the task."""
    if any(machine.has_room(need) for machine in machines):
        return "waits for its turn: room is kept for tasks before it"
    if roomy := [machine for machine in machines if machine.free >= need.processes]:
        memory = max(machine.free_memory for machine in roomy)
        return f"needs about {gigabytes(need.memory_bytes)} of memory on one trainer; {gigabytes(memory)} are free"
    if need.runner_labels:
        return _labelled_room(need, machines)
    if free := max(machine.free for machine in machines):
        return f"needs {need.processes} processes on one trainer; {free} {'is' if free == 1 else 'are'} free"
    return f"waits for a free trainer; {absent}" if absent else "waits for a free trainer"


def _labelled_room(need: Need, machines: Sequence[Machine]) -> str:
    free, total = sum(machine.free for machine in machines), sum(machine.total for machine in machines)
    needs = f"needs {need.processes} processes on one trainer; " if need.processes > 1 else ""
    text = labels_text(need.runner_labels)
    runners = f"the runner with {text} has" if len(machines) == 1 else f"the runners with {text} have"
    return f"{needs}{runners} {free} of {total} processes free"
