"""Brings tasks to trainers: adopts what has no owner, claims what waits, follows what it owns; started by `__main__`.

Everything is a loop that compares what should be with what is; hints only shorten the wait between two rounds. A round that
fails half-way, or never happens because the process was killed, leaves nothing that the next one, here or in another task
manager on the same database, would not find: what is so is in the database and on the trainers, and what is in memory is only
who is at work on it.

That no task runs twice is not decided here but by the claim: in one transaction it locks a waiting task, makes it STARTING
under this process's id and counts its epoch up, and whatever is written for the task later is compared with both. Two task
managers that choose the same task are therefore no mistake, only a lost look.

What the rest relies on: a claim skips tasks whose rows another has locked or that do not wait any more; a trainer starts a run
once, however often its name is sent; a job of a key runs once in this process; who writes under a claim that is not the newest
is refused (StaleClaim), which ends its follower.
"""

import asyncio
import dataclasses
import datetime
import functools
import uuid
from collections.abc import Hashable, Iterable, Sequence

import structlog

from services.common.errors import ServiceError
from services.task_manager.claims import ClaimRepository
from services.task_manager.domain.claim import Assignment, Claim
from services.task_manager.domain.placement import Machine, bound_by_claims
from services.task_manager.domain.schedule import Running, decide
from services.task_manager.domain.task import State
from services.task_manager.event_log import EventLog
from services.task_manager.fleet import Fleet
from services.task_manager.hub import Hub
from services.task_manager.jobs import Jobs, Start
from services.task_manager.orphans import OrphanSweep
from services.task_manager.repeating import repeat
from services.task_manager.roster import Roster
from services.task_manager.run_asking import ask_repeatedly
from services.task_manager.run_follower import CheckpointsBefore, RunFollower
from services.task_manager.settings import TaskManagerSettings
from services.task_manager.task_queue import TaskQueue
from services.task_manager.totals import TaskTotals
from services.task_manager.trainer_port import TrainerAt

log = structlog.get_logger()

_TOTALS_INTERVAL = datetime.timedelta(minutes=1)
_CLAIMED_AT_ONCE = 20


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
        roster: Roster,
        fleet: Fleet,
        hub: Hub,
        settings: TaskManagerSettings,
        checkpoints_before: CheckpointsBefore,
    ) -> None:
        self._queue = queue
        self._claims = claims
        self._events = events
        self._totals = totals
        self._trainer_at = trainer_at
        self._roster = roster
        self._fleet = fleet
        self._hub = hub
        self._settings = settings
        self._checkpoints_before = checkpoints_before
        self._orphans = OrphanSweep(claims)
        self._followers: dict[Claim, RunFollower] = {}

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
        """One look at everything; raises Unavailable when Postgres is away.

        To adopt is to take over active tasks whose owner let its lease run out or gave it up: the run goes on and only who writes
        for it changes. Each task that is owned then has one follower, which starts the run if need be, stores its events and
        records its end.
        """
        if adopted := await self._claims.adopt():
            log.info("tasks.adopted", count=adopted)
        self._reconcile(jobs, await self._claims.owned())
        if await self._queue.has_queued():
            await self._dispatch(jobs)

    def _reconcile(self, jobs: Jobs, owned: Sequence[Assignment]) -> None:
        """One follower for each task that is owned, none for others: what is missing is started, what is too much is cancelled.

        A wish to cancel or pause stands in the task's state: the trainer is asked until the follower sees the run's end.
        """
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
            checkpoints_before=self._checkpoints_before,
        )
        self._followers[assignment.claim] = follower
        try:
            await follower.run()
        finally:
            del self._followers[assignment.claim]
            self._hub.work.set()

    async def _dispatch(self, jobs: Jobs) -> None:
        """Asks the trainers what they can take, decides which waiting task starts where, and claims those.

        A decision may be wrong by the time it is carried out: what another has claimed is then skipped, and what does not fit any
        more is refused by the trainer and goes back to the queue.
        """
        # Looked up before the trainers are asked: a start that is accepted in between is then counted twice, never not at all.
        starting = [one.assignment for one in self._followers.values() if not one.is_accepted]
        trainers = await self._roster.ask(patient=False)
        queue = await self._queue.look(trainers.machines)
        machines = {one.trainer: _left(one, starting, queue.running) for one in trainers.machines}
        quota = self._settings.project_max_processes
        decision = decide(queue.waiting, list(machines.values()), queue.running, queue.now, quota)
        for address, machine in machines.items():
            chosen = [task_id for task_id, trainer in decision.starts.items() if trainer == address]
            machines[address] = await self._start(jobs, chosen, machine)
        # What callers are told that waiting tasks wait for.
        self._fleet.tell(dataclasses.replace(trainers, machines=list(machines.values())))

    async def _start(self, jobs: Jobs, chosen: Sequence[uuid.UUID], machine: Machine) -> Machine:
        """Claims the chosen tasks, which fit into `machine`, and follows those it got; `machine` with the room that is left."""
        for first in range(0, len(chosen), _CLAIMED_AT_ONCE):
            few = chosen[first : first + _CLAIMED_AT_ONCE]
            for assignment in await self._queue.claim(few, machine):
                claim = assignment.claim
                log.info("task.claimed", task_id=str(claim.task_id), runner=machine.trainer, epoch=claim.epoch)
                jobs.start(("follow", claim), functools.partial(self._follow, assignment, is_new=True))
                machine = machine.without(assignment)
        return machine

    async def _sweep(self) -> None:
        """Runs that no task wants are ended, once two looks have found them."""
        await self._orphans.sweep(self._roster.trainers)

    async def _release(self) -> None:
        try:
            # Another task manager adopts at once what this one has given up.
            await self._claims.release()
        except ServiceError as error:
            # The leases run out by themselves.
            log.warning("leases.not_released", reason=error.reason)


def _left(machine: Machine, starting: Iterable[Assignment], running: Iterable[Running]) -> Machine:
    """Without what the trainer does not count yet, and with no more than claims leave: another's may not have reached it yet."""
    for assignment in starting:
        if assignment.runner == machine.trainer:
            machine = machine.without(assignment)
    return bound_by_claims(machine, (run for run in running if run.trainer == machine.trainer))
