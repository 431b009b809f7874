"""Which waiting task starts on which trainer, as a pure function; used by the dispatcher and by forecasts.

Tasks start in the order of the queue wherever they fit: by labels, processes and expected memory (`placement`). The first that
fits nowhere now has one trainer kept for it, the one that will have room soonest, and so has the next for each further trainer.
Behind it only those may start on that trainer that cannot keep it waiting: in processes and memory that it leaves unused anyway,
and for a limited time tasks that are expected to end before the trainer will have room (EASY backfilling: Lifka, The ANL/IBM SP
Scheduling System, 1995). What has overtaken a task never holds more than it leaves unused plus what is expected to end in time,
so whatever else comes, its turn comes.
"""

import dataclasses
import datetime
import uuid
from collections.abc import Iterator, Mapping, Sequence

from services.task_manager.domain.placement import Machine
from services.task_manager.domain.shares import has_quota, held_by_project, in_fair_order

PATIENCE = datetime.timedelta(minutes=30)
"""How long after its creation a task lets others pass because they are expected to be short."""
_MARGIN = 1.5
"""Expectations are wrong by so much at most, mostly."""


@dataclasses.dataclass(frozen=True, slots=True)
class Waiting:
    """A task that could start now; `duration` is expected, None = not known."""

    id: uuid.UUID
    processes: int
    create_time: datetime.datetime
    duration: datetime.timedelta | None = None
    priority: int = 0
    project: str = ""
    memory_bytes: int = 0
    """That it is expected to need at its peak; 0 = not known."""
    runner_labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Labels that a trainer must have."""


@dataclasses.dataclass(frozen=True, slots=True)
class Running:
    """A task that holds processes of a trainer; `remaining` is expected, None = not known."""

    trainer: str
    processes: int
    create_time: datetime.datetime
    remaining: datetime.timedelta | None = None
    priority: int = 0
    project: str = ""
    memory_bytes: int = 0
    """That it is expected to need at its peak; 0 = not known."""


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """Trainer by task that starts now, and trainer by task it is kept for; both in the order of the queue."""

    starts: Mapping[uuid.UUID, str]
    kept: Mapping[uuid.UUID, str]


class _Lane:
    """A trainer while the queue is walked through."""

    def __init__(self, machine: Machine, running: Sequence[Running], now: datetime.datetime) -> None:
        self.machine = machine
        self._running = [run for run in running if run.trainer == machine.trainer]
        self._now = now
        self.kept: Waiting | None = None

    def admits(self, task: Waiting) -> bool:
        """Whether it fits now and keeps nobody waiting for whom the trainer is kept."""
        if not self.machine.has_room(task):
            return False
        return self.kept is None or self._is_left_over(task, self.kept) or self._ends_in_time(task, self.kept)

    def will_have_room(self, task: Waiting) -> bool:
        """Whether it fits once runs have ended; memory that others on the machine have taken does not come back with them."""
        return self.machine.suits(task) and task.memory_bytes <= self._memory_of_runs()

    def start(self, task: Waiting) -> None:
        """It holds its processes and its memory from now on."""
        self.machine = self.machine.without(task)
        self._running.append(run_of(task, self.machine.trainer))

    def has_room_in(self, task: Waiting) -> datetime.timedelta | None:
        """When what the task needs is expected to be free; None = not known."""
        machine = self.machine
        for run in sorted(self._running, key=_end):
            if machine.has_room(task) or run.remaining is None:
                break
            machine = machine.regained(run)
            if machine.has_room(task):
                return run.remaining
        return datetime.timedelta() if machine.has_room(task) else None

    def _is_left_over(self, task: Waiting, kept: Waiting) -> bool:
        # Where projects take turns, age does not say who was next: whatever others hold is counted.
        behind = [run for run in self._running if run.project != kept.project or _place(run) > _place(kept)]
        processes = sum(run.processes for run in behind) + task.processes + kept.processes
        memory = sum(run.memory_bytes for run in behind) + task.memory_bytes + kept.memory_bytes
        return processes <= self.machine.total and memory <= self._memory_of_runs()

    def _memory_of_runs(self) -> int:
        """What runs can have together."""
        return min(self.machine.total_memory, self.machine.free_memory + sum(run.memory_bytes for run in self._running))

    def _ends_in_time(self, task: Waiting, kept: Waiting) -> bool:
        if task.duration is None or self._now - kept.create_time > PATIENCE:
            return False
        room_in = self.has_room_in(kept)
        return room_in is not None and task.duration * _MARGIN <= room_in


def run_of(task: Waiting, trainer: str) -> Running:
    """The task once it has started."""
    return Running(trainer, task.processes, task.create_time, task.duration, task.priority, task.project, task.memory_bytes)


def decide(
    waiting: Sequence[Waiting], machines: Sequence[Machine], running: Sequence[Running], now: datetime.datetime, quota: int = 0
) -> Decision:
    """What starts now; `waiting` is in the order of the queue, in which projects take turns.

    `quota`: processes that a project may hold, 0 = no limit. Who is over it waits and keeps nobody else waiting.
    """
    held = held_by_project(running)
    lanes = [_Lane(machine, running, now) for machine in machines]
    starts: dict[uuid.UUID, str] = {}
    kept: dict[uuid.UUID, str] = {}
    for task in in_fair_order(waiting, running):
        if not any(lane.machine.free for lane in lanes):
            break
        if not has_quota(held, task.project, task.processes, quota):
            continue
        if lane := max((lane for lane in lanes if lane.admits(task)), key=lambda lane: lane.machine.free, default=None):
            lane.start(task)
            starts[task.id] = lane.machine.trainer
            held[task.project] += task.processes
        elif lane := min(_keepable(lanes, task), key=lambda lane: _wait(lane, task), default=None):
            lane.kept = task
            kept[task.id] = lane.machine.trainer
    return Decision(starts, kept)


def forecast(
    waiting: Sequence[Waiting], machines: Sequence[Machine], running: Sequence[Running], now: datetime.datetime, quota: int = 0
) -> Mapping[uuid.UUID, datetime.datetime]:
    """When tasks are expected to start if nothing else comes; those of whom nothing can be told are left out.

    Plays the queue forward from one expected end to the next; runs without one are taken to run for ever.
    """
    expected: dict[uuid.UUID, datetime.datetime] = {}
    left, runs, lanes = list(waiting), list(running), {machine.trainer: machine for machine in machines}
    while left:
        decision = decide(left, list(lanes.values()), runs, now, quota)
        for task in left:
            if trainer := decision.starts.get(task.id):
                expected[task.id] = now
                lanes[trainer] = lanes[trainer].without(task)
                runs.append(run_of(task, trainer))
        left = [task for task in left if task.id not in expected]
        ends = [run.remaining for run in runs if run.remaining is not None]
        if not ends:
            break
        now += min(ends)
        runs = list(_after(runs, min(ends), lanes))
    return expected


def _after(runs: Sequence[Running], passed: datetime.timedelta, lanes: dict[str, Machine]) -> Iterator[Running]:
    """The runs that are left later; what those that ended have held is given back to `lanes`."""
    for run in runs:
        if run.remaining is None:
            yield run
        elif run.remaining > passed:
            yield dataclasses.replace(run, remaining=run.remaining - passed)
        elif run.trainer in lanes:
            lanes[run.trainer] = lanes[run.trainer].regained(run)


def _keepable(lanes: Sequence[_Lane], task: Waiting) -> Iterator[_Lane]:
    return (lane for lane in lanes if lane.kept is None and lane.will_have_room(task))


def _wait(lane: _Lane, task: Waiting) -> tuple[datetime.timedelta, int, str]:
    """Sorts unknown ends last, and those always the same way, so that the choice does not change from round to round."""
    room_in = lane.has_room_in(task)
    return datetime.timedelta.max if room_in is None else room_in, lane.machine.total, lane.machine.trainer


def _end(run: Running) -> datetime.timedelta:
    return datetime.timedelta.max if run.remaining is None else run.remaining


def _place(one: Waiting | Running) -> tuple[int, datetime.datetime]:
    """Grows along the queue, for what waits in it and for what has left it to run."""
    return -one.priority, one.create_time
