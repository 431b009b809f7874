"""Brings tasks to trainers: adopts what has no owner, claims what waits, follows what it owns; started by `__main__`.

Everything is a loop that compares what should be with what is; hints only shorten the wait between two rounds.
"""

import asyncio
import dataclasses
import datetime
import functools
import importlib.metadata
import uuid
from collections.abc import Hashable, Mapping, Sequence

import structlog

from services.common.errors import ServiceError
from services.task_manager.claims import ClaimRepository
from services.task_manager.domain.claim import Assignment, Claim
from services.task_manager.domain.schedule import Machine, decide
from services.task_manager.domain.task import State
from services.task_manager.domain.versions import is_compatible
from services.task_manager.event_log import EventLog
from services.task_manager.fleet import Fleet
from services.task_manager.hub import Hub
from services.task_manager.jobs import Jobs, Start
from services.task_manager.orphans import OrphanSweep
from services.task_manager.repeating import repeat
from services.task_manager.run_asking import ask_repeatedly
from services.task_manager.run_follower import RunFollower
from services.task_manager.settings import TaskManagerSettings
from services.task_manager.task_queue import QueueView, TaskQueue
from services.task_manager.totals import TaskTotals
from services.task_manager.trainer_port import Capacity, Trainer, TrainerAt

log = structlog.get_logger()

_TOTALS_INTERVAL = datetime.timedelta(minutes=1)
_CLAIMED_AT_ONCE = 20
_VERSION = importlib.metadata.version("tunesmith")


class Dispatcher:
    """One per process. `run` ends only when cancelled and then leaves every lease to a successor."""

    def __init__(
        self,
        *,
        queue: TaskQueue,
        claims: ClaimRepository,
        events: EventLog,
        totals: TaskTotals,
        trainer_at: TrainerAt,
        fleet: Fleet,
        hub: Hub,
        settings: TaskManagerSettings,
    ) -> None:
        self._queue = queue
        self._claims = claims
        self._events = events
        self._totals = totals
        self._trainer_at = trainer_at
        self._trainers = {address: trainer_at(address) for address in settings.trainer_addresses}
        self._fleet = fleet
        self._hub = hub
        self._settings = settings
        self._orphans = OrphanSweep(claims)
        self._followers: dict[Claim, RunFollower] = {}
        self._silent: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                jobs = Jobs(group)
                settings = self._settings
                for name, action, interval, hint in (
                    ("lease", self._claims.renew, settings.lease_renewal, asyncio.Event()),
                    ("dispatch", functools.partial(self.round, jobs), settings.dispatch_interval, self._hub.work),
                    ("orphans", self._sweep, settings.orphan_interval, asyncio.Event()),
                    ("totals", self._totals.compact, _TOTALS_INTERVAL, asyncio.Event()),
                ):
                    group.create_task(repeat(name, action, interval, hint), name=name)
        finally:
            await self._release()

    async def round(self, jobs: Jobs) -> None:
        """One look at everything; raises Unavailable when Postgres is away."""
        if adopted := await self._claims.adopt():
            log.info("tasks.adopted", count=adopted)
        self._reconcile(jobs, await self._claims.owned())
        if await self._queue.has_queued():
            await self._dispatch(jobs)

    def _reconcile(self, jobs: Jobs, owned: Sequence[Assignment]) -> None:
        wanted: dict[Hashable, Start] = {}
        for assignment in owned:
            wanted["follow", assignment.claim] = functools.partial(self._follow, assignment, is_new=False)
            if assignment.state in (State.CANCELLING, State.PAUSING):
                trainer, interval = self._trainer_at(assignment.runner), 2 * self._settings.retry_interval.total_seconds()
                ask = trainer.cancel_run if assignment.state is State.CANCELLING else trainer.pause_run
                key = assignment.state, assignment.claim
                wanted[key] = functools.partial(ask_repeatedly, ask, assignment.run_name, interval)
        jobs.reconcile(wanted)

    async def _follow(self, assignment: Assignment, *, is_new: bool) -> None:
        follower = RunFollower(
            assignment,
            is_new=is_new,
            trainer=self._trainer_at(assignment.runner),
            claims=self._claims,
            events=self._events,
            hub=self._hub,
            settings=self._settings,
        )
        self._followers[assignment.claim] = follower
        try:
            await follower.run()
        finally:
            del self._followers[assignment.claim]
            self._hub.work.set()

    async def _dispatch(self, jobs: Jobs) -> None:
        # Counted before the trainers are asked: a start that is accepted in between is then counted twice, never not at all.
        reserved = {address: self._reserved(address) for address in self._trainers}
        answers = await self._ask_capacities()
        capacities = {address: one for address, one in answers.items() if is_compatible(_VERSION, one.version)}
        unfit = {address: one.version for address, one in answers.items() if address not in capacities}
        free = {address: capacity.free_processes - reserved[address] for address, capacity in capacities.items()}
        largest = max((capacity.total_processes for capacity in capacities.values()), default=0)
        queue = await self._queue.look(largest=largest)
        machines = {address: _machine(address, capacity, free[address], queue) for address, capacity in capacities.items()}
        quota = self._settings.project_max_processes
        decision = decide(queue.waiting, list(machines.values()), queue.running, queue.now, quota)
        for address, machine in machines.items():
            chosen = [task_id for task_id, trainer in decision.starts.items() if trainer == address]
            machines[address] = await self._start(jobs, chosen, machine)
        self._fleet.tell(list(machines.values()), sorted(self._silent), unfit)

    async def _start(self, jobs: Jobs, chosen: Sequence[uuid.UUID], machine: Machine) -> Machine:
        """The trainer with the room that is left."""
        for first in range(0, len(chosen), _CLAIMED_AT_ONCE):
            few = chosen[first : first + _CLAIMED_AT_ONCE]
            for assignment in await self._queue.claim(few, machine.trainer, machine.total):
                claim = assignment.claim
                log.info("task.claimed", task_id=str(claim.task_id), runner=machine.trainer, epoch=claim.epoch)
                jobs.start(("follow", claim), functools.partial(self._follow, assignment, is_new=True))
                machine = dataclasses.replace(machine, free=machine.free - assignment.processes)
        return machine

    def _reserved(self, address: str) -> int:
        """Processes of claimed tasks that the trainer does not count yet."""
        followed = (follower for follower in self._followers.values() if not follower.is_accepted)
        return sum(follower.assignment.processes for follower in followed if follower.assignment.runner == address)

    async def _ask_capacities(self) -> Mapping[str, Capacity]:
        answers = await asyncio.gather(*(_capacity(trainer) for trainer in self._trainers.values()))
        known = {address: answer for address, answer in zip(self._trainers, answers, strict=True) if answer}
        silent = frozenset(self._trainers.keys() - known.keys())
        if silent != self._silent:
            log.warning("trainers.changed", silent=sorted(silent), answering=sorted(known))
            self._silent = silent
        return known

    async def _sweep(self) -> None:
        await self._orphans.sweep(self._trainers)

    async def _release(self) -> None:
        try:
            await self._claims.release()
        except ServiceError as error:
            # The leases run out by themselves.
            log.warning("leases.not_released", reason=error.reason)


def _machine(address: str, capacity: Capacity, free: int, queue: QueueView) -> Machine:
    """What neither the trainer nor the database says is taken: another task manager's claim may not have reached it yet."""
    claimed = sum(run.processes for run in queue.running if run.trainer == address)
    return Machine(address, capacity.total_processes, max(0, min(free, capacity.total_processes - claimed)))


async def _capacity(trainer: Trainer) -> Capacity | None:
    try:
        return await trainer.capacity()
    except ServiceError as error:
        log.debug("trainer.silent", reason=error.reason, message=error.message)
        return None
