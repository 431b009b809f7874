"""Whose turn it is: projects share the trainers fairly, and none holds more than its quota; pure, used by the schedule.

Of tasks of one priority, the next is of the project that holds the fewest processes, and there the oldest. A project that holds
nothing therefore comes before every one that holds something, and of two that hold nothing the one with the older task: whatever
others bring later, a task is next at the latest when its project's runs have ended and older tasks have started.
"""

import collections
import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar


class Placed(Protocol):
    """A task, waiting or running."""

    @property
    def project(self) -> str:
        """Its label `project`, empty without one."""

    @property
    def processes(self) -> int:
        """That it needs or holds."""


class Queued(Placed, Protocol):
    """A waiting task."""

    @property
    def priority(self) -> int:
        """Higher comes first, whoever's it is."""


T = TypeVar("T", bound=Queued)
K = TypeVar("K")


def held_by_project(running: Iterable[Placed]) -> "collections.Counter[str]":
    """Processes by project."""
    held: collections.Counter[str] = collections.Counter()
    for run in running:
        held[run.project] += run.processes
    return held


def has_quota(held: Mapping[str, int], project: str, processes: int, most: int) -> bool:
    """Whether a project may hold so many processes, too; `most` 0 = no limit."""
    return not most or held.get(project, 0) + processes <= most


def in_fair_order(waiting: Sequence[T], running: Iterable[Placed]) -> list[T]:
    """Tasks in the order of the queue, reordered so that projects take turns; of one project they stay in order."""
    held, ordered = held_by_project(running), list[T]()
    for _, tasks in sorted(_grouped(waiting, lambda task: -task.priority), key=lambda group: group[0]):
        lines = {project: collections.deque(those) for project, those in _grouped(tasks, lambda task: task.project)}
        place = {id(task): number for number, task in enumerate(tasks)}
        turns = [(held[project], place[id(line[0])], project) for project, line in lines.items()]
        heapq.heapify(turns)
        while turns:
            project = turns[0][2]
            ordered.append(lines[project].popleft())
            held[project] += ordered[-1].processes
            if lines[project]:
                heapq.heapreplace(turns, (held[project], place[id(lines[project][0])], project))
            else:
                heapq.heappop(turns)
    return ordered


def _grouped(tasks: Iterable[T], key: Callable[[T], K]) -> list[tuple[K, list[T]]]:
    groups: dict[K, list[T]] = {}
    for task in tasks:
        groups.setdefault(key(task), []).append(task)
    return list(groups.items())
