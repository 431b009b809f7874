"""The dispatcher, its jobs and the sweep of orphans against fakes."""

import asyncio
import contextlib
import dataclasses
import datetime
import pathlib
import uuid
from collections.abc import Mapping, Sequence

import pytest
from dispatch_fakes import (
    RUN,
    TASK,
    FakeStore,
    FakeTrainer,
    absent,
    assignment,
    away,
    batch,
    checkpoints_before,
    end,
    settings,
    started,
)

from services.common.config import ConfigError, load
from services.common.errors import Unavailable
from services.task_manager.dispatcher import Dispatcher
from services.task_manager.domain.claim import Assignment, Claim
from services.task_manager.domain.placement import Machine
from services.task_manager.domain.schedule import Running, Waiting
from services.task_manager.domain.task import ACTIVE, State
from services.task_manager.domain.waiting import Trainers
from services.task_manager.fleet import Fleet
from services.task_manager.hub import Hub
from services.task_manager.jobs import Jobs
from services.task_manager.orphans import OrphanSweep
from services.task_manager.roster import Roster
from services.task_manager.settings import TaskManagerSettings
from services.task_manager.task_queue import QueueView
from services.task_manager.trainer_port import Capacity, LiveRun

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class FakeQueue:
    """One waiting task."""

    def __init__(self, store: FakeStore, *, processes: int = 1) -> None:
        self.store = store
        self.waits = True
        self.processes = processes
        self.memory_bytes = 0
        self.runner_labels: Mapping[str, str] = {}
        self.running: list[Running] = []

    async def has_queued(self) -> bool:
        return self.waits

    async def look(self, machines: Sequence[Machine], *, limit: int = 200) -> QueueView:
        fits = self.waits and any(self.processes <= machine.total for machine in machines)
        task = Waiting(TASK, self.processes, START, memory_bytes=self.memory_bytes, runner_labels=self.runner_labels)
        return QueueView([task] if fits else [], self.running, START)

    async def claim(self, task_ids: Sequence[uuid.UUID], machine: Machine) -> list[Assignment]:
        if not (self.waits and task_ids):
            return []
        self.waits = False
        self.store.task = dataclasses.replace(self.store.task, runner=machine.trainer)
        return [self.store.task]


class FakeClaims(FakeStore):
    """What the dispatcher needs beside what the follower needs."""

    def __init__(self, stored: Assignment) -> None:
        super().__init__(stored)
        self.released = False
        self.renewals = 0
        self.outage = False
        self.active = False

    async def adopt(self) -> int:
        if self.outage:
            raise Unavailable("POSTGRES_UNAVAILABLE", "away")
        return 0

    async def owned_tasks(self) -> Sequence[Assignment]:
        return [self.task] if self.active and self.task.state in ACTIVE else []

    async def renew(self) -> None:
        self.renewals += 1

    async def release(self) -> None:
        self.released = True

    async def heard(self, runners: Sequence[str]) -> None:
        if self.outage:
            raise Unavailable("POSTGRES_UNAVAILABLE", "away")

    async def current_runs(self, task_ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, str]:
        return {TASK: RUN}


class FakeTotals:
    """Counts how often it was tidied."""

    def __init__(self) -> None:
        self.times = 0

    async def compact(self) -> None:
        self.times += 1


class World:
    """A dispatcher with one task and one trainer."""

    def __init__(self, trainer: FakeTrainer, *, queued: bool = True, **task: object) -> None:
        self.trainer = trainer
        self.store = FakeClaims(assignment(**task))
        self.queue = FakeQueue(self.store)
        self.queue.waits = queued
        self.store.active = not queued
        self.hub = Hub()
        self.fleet = Fleet()
        self.totals = FakeTotals()
        adapter = _Adapter(self.store, self.queue)
        self.dispatcher = Dispatcher(
            queue=self.queue,  # type: ignore[arg-type]
            claims=adapter,  # type: ignore[arg-type]
            events=self.store,  # type: ignore[arg-type]
            totals=self.totals,  # type: ignore[arg-type]
            trainer_at=lambda _: trainer,
            roster=Roster(lambda _: trainer, settings().trainer_addresses, lambda: START),
            fleet=self.fleet,
            hub=self.hub,
            settings=settings(),
            checkpoints_before=checkpoints_before,
        )

    async def until(self, condition: object) -> None:
        """Runs the dispatcher until the condition holds, then stops it."""
        running = asyncio.create_task(self.dispatcher.run())
        async with asyncio.timeout(10):
            while not condition():  # type: ignore[operator]
                assert not running.done(), "a dispatcher ends only when cancelled"
                await asyncio.sleep(0.001)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


class _Adapter:
    """The store under the names the dispatcher uses: `owned` is a question there and a fact in the store."""

    def __init__(self, store: FakeClaims, queue: FakeQueue) -> None:
        self._store = store
        self._queue = queue

    async def owned(self) -> Sequence[Assignment]:
        self._store.active = self._store.active or not self._queue.waits
        return await self._store.owned_tasks()

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


async def test_a_waiting_task_is_claimed_and_brought_to_its_end() -> None:
    world = World(FakeTrainer((batch(started(1)), end(1))))

    await world.until(lambda: world.store.task.state is State.SUCCEEDED)

    assert world.trainer.started == [RUN]
    assert world.store.released, "a successor may adopt at once"


async def test_an_owned_task_is_followed_without_being_claimed() -> None:
    world = World(FakeTrainer((end(4),)), queued=False, state=State.RUNNING, run_sequence=4)

    await world.until(lambda: world.store.task.state is State.SUCCEEDED)

    assert world.trainer.started == []


@pytest.mark.parametrize("state", [State.CANCELLING])
async def test_a_cancelling_task_has_its_run_ended(state: State) -> None:
    world = World(FakeTrainer(), queued=False, state=state, run_sequence=4)

    await world.until(lambda: len(world.trainer.cancelled) >= 2)


@pytest.mark.parametrize(
    ("has", "machines", "silent"),
    [(Capacity(4, 0), [Machine("t:1", 4, 0)], []), (away(), [], ["t:1"])],
    ids=["no room", "silent"],
)
async def test_what_tasks_wait_for_is_known(has: Capacity | Exception, machines: list[Machine], silent: list[str]) -> None:
    world = World(FakeTrainer())
    world.trainer.has = has

    await world.until(lambda: world.fleet.is_known)

    assert (world.fleet.trainers.machines, world.fleet.trainers.silent) == (machines, silent)
    assert world.queue.waits


async def test_a_trainer_that_swallows_questions_holds_up_no_start_on_another() -> None:
    world = World(FakeTrainer((batch(started(1)), end(1))))
    silent = FakeTrainer()
    silent.has = away()
    trainers = {"a:1": silent, "t:1": world.trainer}
    world.dispatcher._roster = Roster(trainers.__getitem__, list(trainers), lambda: START)
    await world.dispatcher._roster.ask()
    silent.answers.clear()

    await world.until(lambda: world.store.task.state is State.SUCCEEDED)

    assert world.trainer.started == [RUN]
    assert silent.asked == 2, "it is still being asked"


async def test_a_trainer_of_another_version_gets_no_runs_and_is_told() -> None:
    world = World(FakeTrainer())
    world.trainer.has = Capacity(4, 4, version="99.1.0")

    await world.until(lambda: world.fleet.is_known)

    assert world.fleet.trainers == Trainers([], [], {"t:1": "99.1.0"})
    assert world.queue.waits


async def test_a_task_larger_than_the_room_waits() -> None:
    world = World(FakeTrainer())
    world.queue.processes = 2

    await world.until(lambda: world.fleet.is_known)

    assert world.queue.waits


async def test_processes_that_another_task_manager_has_claimed_are_not_free() -> None:
    world = World(FakeTrainer())
    world.trainer.has = Capacity(2, 2)
    world.queue.processes = 2
    world.queue.running = [Running("t:1", 1, START)]

    await world.until(lambda: world.fleet.is_known)

    assert world.fleet.trainers.machines == [Machine("t:1", 2, 1)]
    assert world.queue.waits


async def test_memory_of_claims_is_not_free_however_little_the_trainer_sees_of_it() -> None:
    world = World(FakeTrainer())
    world.trainer.has = Capacity(4, 3, total_memory_bytes=100, free_memory_bytes=90)
    world.queue.memory_bytes = 41
    world.queue.running = [Running("t:1", 1, START, memory_bytes=60)]

    await world.until(lambda: world.fleet.is_known)

    assert world.fleet.trainers.machines == [Machine("t:1", 4, 3, {}, 100, 40)]
    assert world.queue.waits


async def test_a_task_goes_to_the_runner_that_has_its_labels() -> None:
    world = World(FakeTrainer((batch(started(1)), end(1))))
    world.queue.runner_labels = {"zone": "a"}
    world.trainer.has = Capacity(1, 1, labels={"zone": "b"})
    await world.until(lambda: world.fleet.is_known)
    assert world.queue.waits

    again = World(FakeTrainer((batch(started(1)), end(1))))
    again.queue.runner_labels = {"zone": "a"}
    again.trainer.has = Capacity(1, 1, labels={"zone": "a", "disk": "fast"})
    await again.until(lambda: again.store.task.state is State.SUCCEEDED)


async def test_an_outage_of_postgres_does_not_end_the_dispatcher() -> None:
    world = World(FakeTrainer((batch(started(1)), end(1))))
    world.store.outage = True
    running = asyncio.create_task(asyncio.sleep(0.02))
    running.add_done_callback(lambda _: setattr(world.store, "outage", False))

    await world.until(lambda: world.store.task.state is State.SUCCEEDED)


async def test_leases_are_renewed_and_totals_tidied_while_it_runs() -> None:
    world = World(FakeTrainer(), queued=False, state=State.RUNNING)

    await world.until(lambda: world.store.renewals and world.totals.times)


async def test_a_follower_is_ended_when_the_task_belongs_to_somebody_else() -> None:
    world = World(FakeTrainer((batch(started(1)),)))
    await_started = asyncio.create_task(asyncio.sleep(0))

    def taken_away() -> bool:
        if world.store.events:
            world.store.task = dataclasses.replace(world.store.task, claim=Claim(TASK, 1, uuid.UUID(int=9)))
            world.store.active = False
            world.queue.store.owned = False
            world.queue.waits = True
            world.queue.processes = 99
        return bool(world.store.events) and not world.dispatcher._followers

    await world.until(taken_away)
    await await_started


async def test_a_cancellation_that_a_library_swallowed_still_ends_the_dispatcher() -> None:
    world = World(FakeTrainer(), queued=False, state=State.RUNNING)
    renewing = asyncio.Event()

    async def swallow() -> None:
        renewing.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    world.store.renew = swallow  # type: ignore[method-assign]
    running = asyncio.create_task(world.dispatcher.run())
    await asyncio.wait_for(renewing.wait(), 10)
    running.cancel()
    await asyncio.wait({running}, timeout=10)

    assert running.cancelled()


# ---- jobs


async def test_jobs_are_started_and_ended_to_match_what_is_wanted() -> None:
    running: set[str] = set()

    async def job(name: str) -> None:
        running.add(name)
        try:
            await asyncio.Event().wait()
        finally:
            running.discard(name)

    async with asyncio.TaskGroup() as group:
        jobs = Jobs(group)
        jobs.reconcile({"a": lambda: job("a"), "b": lambda: job("b")})
        await asyncio.sleep(0)
        assert running == {"a", "b"}

        jobs.reconcile({"b": lambda: job("again"), "c": lambda: job("c")})
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert running == {"b", "c"}, "what runs already is left alone"

        jobs.reconcile({})

    assert running == set()


# ---- orphans


async def test_a_trainer_that_hangs_keeps_no_other_from_being_asked() -> None:
    """A strict one ends its runs when nobody asks it for anything."""
    hangs, other, asked = FakeTrainer(), FakeTrainer(), asyncio.Event()

    async def never() -> Sequence[LiveRun]:
        await asyncio.Event().wait()
        return ()

    async def at_once() -> Sequence[LiveRun]:
        asked.set()
        return ()

    hangs.live_runs, other.live_runs = never, at_once  # type: ignore[method-assign]
    sweep = asyncio.create_task(OrphanSweep(Current(RUN)).sweep({"a:1": hangs, "b:1": other}))
    async with asyncio.timeout(10):
        await asked.wait()
    sweep.cancel()


async def test_who_has_answered_is_written_down_before_anybody_is_asked_again() -> None:
    current, silent, answering = Current(RUN), FakeTrainer(), FakeTrainer()
    silent.has = away()
    sweep = OrphanSweep(current)
    for _ in range(2):
        await sweep.sweep({"b:1": answering, "a:1": silent, "c:1": answering})
    assert current.contacts == [[], ["b:1", "c:1"]]


async def test_no_trainer_is_asked_when_nobody_would_learn_of_its_answer() -> None:
    """Otherwise a strict one would go on while another task manager takes it for silent."""
    current, trainer, asked = Current(RUN), FakeTrainer(), False
    current.is_away = True

    async def ask() -> Sequence[LiveRun]:
        nonlocal asked
        asked = True
        return ()

    trainer.live_runs = ask  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await OrphanSweep(current).sweep({"a:1": trainer})
    assert not asked


def test_the_authority_of_trainers_is_read_and_named_when_it_cannot_be(tmp_path: pathlib.Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"pem")
    assert settings().trainer_authority() is None
    assert settings(trainer_tls_ca=tmp_path / "ca.pem").trainer_authority() == b"pem"
    with pytest.raises(ConfigError, match=r"TUNESMITH_TASK_MANAGER_TRAINER_TLS_CA=.*none\.pem: No such file"):
        settings(trainer_tls_ca=tmp_path / "none.pem").trainer_authority()


class Current:
    """The run that the task has by the database."""

    def __init__(self, run: str | None) -> None:
        self.run = run
        self.contacts: list[Sequence[str]] = []
        self.is_away = False

    async def heard(self, runners: Sequence[str]) -> None:
        if self.is_away:
            raise Unavailable("POSTGRES_UNAVAILABLE", "away")
        self.contacts.append(runners)

    async def current_runs(self, task_ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, str]:
        return {} if self.run is None else dict.fromkeys(task_ids, self.run)


@pytest.mark.parametrize(
    ("current", "ended"),
    [("", True), (f"runs/{TASK}-2", True), (RUN, False), (None, False)],
)
async def test_only_runs_that_their_task_does_not_want_are_ended(current: str | None, ended: bool) -> None:
    trainer = FakeTrainer()
    trainer.runs = [LiveRun(RUN, f"tasks/{TASK}"), LiveRun("runs/odd", "not a task")]
    sweep = OrphanSweep(Current(current))

    await sweep.sweep({"t:1": trainer})
    assert trainer.cancelled == [], "once may be a race"
    await sweep.sweep({"t:1": trainer})

    assert trainer.cancelled == ([RUN] if ended else [])


async def test_a_trainer_that_is_away_does_not_keep_the_others_from_being_swept() -> None:
    silent, trainer = FakeTrainer(), FakeTrainer()
    silent.has = absent()
    trainer.runs = [LiveRun(RUN, f"tasks/{TASK}")]
    sweep = OrphanSweep(Current(""))

    for _ in range(2):
        await sweep.sweep({"a:1": silent, "t:1": trainer})

    assert trainer.cancelled == [RUN]


# ---- settings

ENVIRONMENT = {
    "TUNESMITH_POSTGRES_DSN": "postgresql://u:secret@h/d",
    "TUNESMITH_TASK_MANAGER_LISTEN": "127.0.0.1:1",
    "TUNESMITH_TASK_MANAGER_STORAGE_ADDRESS": "127.0.0.1:2",
    "TUNESMITH_TASK_MANAGER_TRAINER_ADDRESSES": "127.0.0.1:3, 127.0.0.1:4",
}


def test_settings_come_from_the_environment_and_hide_secrets() -> None:
    found = load(TaskManagerSettings, "TUNESMITH_TASK_MANAGER_", ENVIRONMENT)

    assert found.trainer_addresses == ("127.0.0.1:3", "127.0.0.1:4")
    assert ":secret@" not in repr(found)


@pytest.mark.parametrize(
    ("changes", "variable"),
    [
        ({"TUNESMITH_TASK_MANAGER_TRAINER_ADDRESSES": " , "}, "TRAINER_ADDRESSES"),
        ({"TUNESMITH_TASK_MANAGER_LEASE": "5s"}, "LEASE"),
        ({"TUNESMITH_TASK_MANAGER_LEASE": "soon"}, "LEASE"),
        ({"TUNESMITH_TASK_MANAGER_LISTEN": "0.0.0.0:1"}, "TLS_CERT"),
        ({"TUNESMITH_TASK_MANAGER_LISEN": "x"}, "LISTEN"),
    ],
)
def test_bad_settings_are_refused_by_name(changes: dict[str, str], variable: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        load(TaskManagerSettings, "TUNESMITH_TASK_MANAGER_", ENVIRONMENT | changes)
