"""Task managers, trainers and callers in one thread, under one seed: every interleaving of their steps that chance finds.

A follower reads, asks its trainer and writes in three steps, and anything may happen between two of them: its process is stopped
for long or killed, its lease runs out, somebody adopts, cancels or pauses the task, the trainer is away or loses its runs.
"""

import contextlib
import datetime
import random
from collections.abc import Callable, Sequence
from typing import Any

from simulated_store import LEASE, Broken, Claim, Gap, Row, Stale, Store
from simulated_trainer import FENCE, Ahead, Away, NotFound, Refused, Trainer

from services.task_manager.domain.attempt import Failing, Step, has_fenced_itself, next_step
from services.task_manager.domain.placement import Machine
from services.task_manager.domain.schedule import Running, Waiting, decide
from services.task_manager.domain.task import ACTIVE, Change, State

STEPS = 130
UNIT = datetime.timedelta(seconds=5)
"""Of the time in the simulation, where rules are told in seconds."""
_ROUNDS_TO_REST = 120


class Chance(random.Random):
    """Choices faster than those of the library; nothing here needs them to be exactly even."""

    def pick(self, options: Sequence[Any]) -> Any:
        return options[int(self.random() * len(options))]


class Follower:
    """Of one claim; the rules of the real one, in three steps."""

    def __init__(self, world: "World", claim: Claim, *, is_new: bool, row: Row) -> None:
        self._world = world
        self.claim = claim
        self._may_have_started = not is_new
        self._is_accepted = row.state is not State.STARTING or row.run_sequence > 0
        self._not_found = self._refusals = 0
        self._failing = Failing()
        self._row: Row | None = None
        self.write: Callable[[], object] | None = None
        self.is_over = False

    def step(self) -> None:
        """One of: read, ask, write."""
        try:
            if self._row is None:
                self._row = self._world.store.read(self.claim)
            elif self.write is None:
                self.write = self._ask(self._row)
            else:
                self.write()
                self._row = self.write = None
        except Stale:
            self.is_over = True
        except Away:
            self.write = self._given_up()
            self._row = self._row if self.write else None
        except Gap:
            self._row = self.write = None

    def _given_up(self) -> Callable[[], object] | None:
        """What is written when the trainer has ended the run by its own rule; None = it may go on."""
        store, claim, row = self._world.store, self.claim, self._row
        if row is None:
            return None
        failing = self._failing.failed((self._world.store.now * UNIT).total_seconds()) // UNIT
        if not self._world.has_fenced_itself(row.runner, min(failing, self._world.silence(row.runner))):
            return None
        return lambda: store.lose(claim)

    def _ask(self, row: Row) -> Callable[[], object]:
        store, claim = self._world.store, self.claim
        match next_step(row.state, row.run_sequence, may_have_started=self._may_have_started, is_accepted=self._is_accepted):
            case Step.CANCEL:
                return lambda: store.finish(claim, Change(State.CANCELLED, "before a run"))
            case Step.PAUSE:
                return lambda: store.finish(claim, Change(State.PAUSED, "before a run"))
            case Step.START:
                return self._start(row)
        return self._follow(row)

    def _start(self, row: Row) -> Callable[[], object]:
        before, self._may_have_started = self._may_have_started, True
        try:
            self._world.trainers[row.runner].start(row.run, row.processes)
        except Refused:
            self._may_have_started, self._refusals = before, self._refusals + 1
            if self._refusals < 3:
                return lambda: None
            return lambda: self._world.store.finish(self.claim, Change(State.QUEUED, "no room"))
        self._is_accepted, self._failing = True, Failing()
        return lambda: None

    def _follow(self, row: Row) -> Callable[[], object]:
        store, claim, trainer = self._world.store, self.claim, self._world.trainers[row.runner]
        try:
            events, run = self._world.follow(trainer, row)
        except NotFound:
            if row.run in trainer.runs:
                raise Broken(f"{row.run} is taken for lost and lives") from None
            return self._lost()
        except Ahead:
            with contextlib.suppress(Away):
                trainer.ask(row.run)
            return self._lost()
        self._not_found, self._failing = 0, Failing()
        if events:
            return lambda: store.append(claim, row.run, row.run_sequence, events)
        if run.end is None or self._world.has_more(run.journal, row.run_sequence):
            return lambda: None
        return {
            State.SUCCEEDED: lambda: store.finish(claim, Change(State.SUCCEEDED, "done", artifact="a"), run.journal),
            State.FAILED: lambda: store.finish(claim, Change(State.FAILED, "failed", error=b"")),
            State.PAUSED: lambda: store.lose(claim),
            State.CANCELLED: lambda: store.finish(
                claim, Change(State.CANCELLED if row.state is State.CANCELLING else State.FAILED, "ended", error=b"")
            ),
        }[run.end]

    def _lost(self) -> Callable[[], object]:
        self._not_found += 1
        return (lambda: None) if self._not_found < 2 else lambda: self._world.store.lose(self.claim)


class Manager:
    """A process: its memory is lost when it is killed."""

    def __init__(self, world: "World", owner: int) -> None:
        self._world = world
        self.owner = owner
        self.wakes_at = 0
        self._followers: dict[Claim, Follower] = {}
        self._chosen: list[tuple[Row, int]] = []
        self._suspects: set[tuple[int, int]] = set()

    def act(self, chance: Chance) -> None:
        """One step."""
        if self._world.store.now < self.wakes_at:
            return
        dice = chance.random()
        if self._followers and dice < 0.65:
            follower = chance.pick(list(self._followers.values()))
            self._step(follower)
            # Mostly nothing comes between two steps; the troubles are in the rest.
            while not follower.is_over and chance.random() < 0.7:
                self._step(follower)
        elif self._chosen and dice < 0.9:
            self._claim()
        else:
            chance.pick((self._renew, self._adopt, self._reconcile, self._choose, self._choose, self._ask, self._sweep))()

    def drop_followers(self) -> None:
        """They are gone; what they had sent to the database may still arrive there."""
        self._world.in_flight += [follower.write for follower in self._followers.values() if follower.write]
        self._followers.clear()

    def whole_round(self) -> None:
        """All steps once, in their order."""
        for step in (self._renew, self._adopt, self._reconcile, self._choose):
            step()
        while self._chosen:
            self._claim()
        for follower in [*self._followers.values()] * 3:
            self._step(follower)
        self._ask()
        self._sweep()

    def _step(self, follower: Follower) -> None:
        follower.step()
        if follower.is_over:
            self._followers.pop(follower.claim, None)

    def _renew(self) -> None:
        self._world.store.renew(self.owner)

    def _adopt(self) -> None:
        self._world.store.adopt(self.owner)

    def _reconcile(self) -> None:
        owned = dict(self._world.store.owned(self.owner))
        self._followers = {claim: follower for claim, follower in self._followers.items() if claim in owned}
        for claim, row in owned.items():
            if claim not in self._followers:
                self._followers[claim] = Follower(self._world, claim, is_new=False, row=row)

    def _choose(self) -> None:
        """What starts where, by what is seen now; the claims come later."""
        store, machines = self._world.store, list[Machine]()
        if not any(row.state is State.QUEUED for row in store.rows):
            return
        for number, trainer in enumerate(self._world.trainers):
            with contextlib.suppress(Away):
                free = min(trainer.free(), trainer.total - store.taken(number))
                machines.append(Machine(str(number), trainer.total, max(0, free), {"number": str(number)}))
        rows = {row.id: row for row in store.rows if row.state is State.QUEUED and store.is_due(row)}
        waiting = [
            Waiting(row.id, row.processes, row.id, runner_labels=self._world.asked_labels(row))  # type: ignore[arg-type]
            for row in rows.values()
        ]
        active = [row for row in store.rows if row.state in ACTIVE]
        running = [Running(str(row.runner), row.processes, row.id) for row in active]  # type: ignore[arg-type]
        decision = decide(waiting, machines, running, store.now)  # type: ignore[arg-type]
        self._chosen = [(rows[task], int(trainer)) for task, trainer in decision.starts.items()]  # type: ignore[index]

    def _claim(self) -> None:
        row, runner = self._chosen.pop(0)
        if claim := self._world.store.claim(row, self.owner, runner):
            self._followers[claim] = Follower(self._world, claim, is_new=True, row=row)

    def _ask(self) -> None:
        for _, row in self._world.store.owned(self.owner):
            if row.state in (State.CANCELLING, State.PAUSING):
                with contextlib.suppress(Away):
                    self._world.trainers[row.runner].ask(row.run, to_pause=row.state is State.PAUSING)

    def _sweep(self) -> None:
        rows, found = self._world.store.rows, set[tuple[int, int]]()
        for number, trainer in enumerate(self._world.trainers):
            for name, run in trainer.runs.items() if not trainer.is_away else ():
                row = rows[name[0]]
                is_wanted = row.state in ACTIVE and (row.run, row.runner) == (name, number)
                if run.end is None and not is_wanted:
                    found.add(name)
                    run.is_cancelled |= name in self._suspects
        self._suspects = found


class World:
    """Everything, under one seed."""

    def __init__(self, seed: int, store: Callable[[list[int]], Store] = Store) -> None:
        self.chance = Chance(seed)
        self.in_flight: list[Callable[[], object]] = []
        # Each seed has troubles of its own: a trainer that loses its runs again and again, processes that are killed, ...
        self._troubles = [self.chance.randrange(5) for _ in range(3)]
        self._calm = self.chance.choice((0.75, 0.85, 0.95))
        totals = [self.chance.randint(1, 3) for _ in range(2)]
        self.store = store(totals)
        self.trainers = [
            Trainer(self.chance, total, lambda: self.store.now, is_strict=number == 0) for number, total in enumerate(totals)
        ]
        self._owners = 0
        self.managers = [self.new_manager() for _ in range(2)]
        for _ in range(2):
            self._create(totals)

    def _create(self, totals: list[int]) -> None:
        """A task that one of the trainers can take, or any that is large enough."""
        processes = self.chance.randint(1, max(totals))
        number = self.chance.pick([number for number, total in enumerate(totals) if total >= processes])
        self.store.create(processes, {"number": str(number)} if self.chance.random() < 0.5 else {})

    def new_manager(self) -> Manager:
        self._owners += 1
        return Manager(self, self._owners)

    def silence(self, trainer: int) -> int:
        return self.store.now - self.trainers[trainer].answered

    def check_computing(self) -> None:
        """A run that a strict trainer computes is not given elsewhere."""
        live = [trainer.computing() for trainer in self.trainers]
        for task, attempt in live[0]:
            if any(other == task and later > attempt for other, later in live[1]):
                raise Broken(f"{task, attempt} is computed, and a later attempt elsewhere")

    # What a follower makes of answers, and a manager of what is asked for; here, so that it can be got wrong.
    def has_fenced_itself(self, trainer: int, silence: int) -> bool:
        return self.trainers[trainer].is_strict and has_fenced_itself(FENCE * UNIT, silence * UNIT, UNIT)

    def asked_labels(self, row: Row) -> dict[str, str]:
        return row.labels

    def follow(self, trainer: Trainer, row: Row) -> tuple[list[int], object]:
        return trainer.follow(row.run, row.run_sequence)

    def has_more(self, journal: int, stored: int) -> bool:
        return journal > stored

    def run(self) -> None:
        """Trouble first; then everything heals and every task must come to its end. Raises Broken."""
        for _ in range(STEPS):
            self.store.now += int(self.chance.random() * 3)
            self._step()
            self.check_computing()
        self._heal()
        for _ in range(_ROUNDS_TO_REST):
            self.store.now += LEASE // 4
            for actor in self.managers:
                actor.whole_round()
            for trainer in self.trainers:
                trainer.progress()
            if self.chance.random() < 0.3:
                self._arrive()
            if self._rests():
                return
        raise Broken(f"stuck: {[(row.id, row.state.value, row.attempt) for row in self.store.rows]}")

    def _step(self) -> None:
        dice = self.chance.random()
        if self.in_flight and dice < 0.015:
            self._arrive()
        elif dice < 0.6:
            self.chance.pick(self.managers).act(self.chance)
        elif dice < self._calm - 0.02:
            self.chance.pick(self.trainers).progress()
        elif dice < self._calm:
            ask = self.chance.pick((self.store.cancel, self.store.pause, self.store.pause, self.store.resume))
            ask(self.chance.pick(self.store.rows))
        else:
            self._trouble(self.chance.pick(self._troubles))

    def _trouble(self, kind: int) -> None:
        place, trainer = int(self.chance.random() * 2), self.chance.pick(self.trainers)
        match kind:
            case 0:
                self.managers[place].drop_followers()
                self.managers[place] = self.new_manager()
            case 1:
                self.managers[place].wakes_at = self.store.now + 1 + int(self.chance.random() * 2 * LEASE)
            case 2:
                trainer.come_or_go()
            case 3:
                trainer.runs.clear()
            case _:
                self.managers[place].drop_followers()

    def _arrive(self) -> None:
        """What a follower that is gone had sent."""
        if self.in_flight:
            write = self.in_flight.pop(int(self.chance.random() * len(self.in_flight)))
            with contextlib.suppress(Stale, Gap):
                write()

    def _heal(self) -> None:
        for trainer in self.trainers:
            trainer.is_away = False
        for manager in self.managers:
            manager.wakes_at = 0

    def _rests(self) -> bool:
        for row in self.store.rows:
            self.store.resume(row)
        is_idle = all(run.end is not None for trainer in self.trainers for run in trainer.runs.values())
        return is_idle and all(row.state.is_terminal for row in self.store.rows)
