"""The task manager's database in the simulation: the rules of its SQL over the same pure functions, with everything checked.

Each method is one transaction, so it happens at one moment; what goes wrong lies between them. `Broken` is raised by the store
itself when a promise is broken, whoever broke it: these checks know nothing of how claims are compared.
"""

import dataclasses

from services.task_manager.domain import transitions
from services.task_manager.domain.attempt import after_loss, moves
from services.task_manager.domain.task import ACTIVE, Change, State

LEASE = 20
REST = 5
MOST_LOST = 2


class Broken(AssertionError):
    """An invariant does not hold."""


class Stale(Exception):
    """The claim is not that of the head."""


class Gap(Exception):
    """Events were left out."""


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """As the real one; owners are numbers."""

    task: int
    epoch: int
    owner: int


@dataclasses.dataclass(slots=True)
class Row:
    """A task with its head, and beside it what only the checks know."""

    id: int
    processes: int
    labels: dict[str, str] = dataclasses.field(default_factory=dict)
    state: State = State.QUEUED
    attempt: int = 0
    runner: int = -1
    lost: int = 0
    due: int = 0
    epoch: int = 0
    owner: int | None = None
    lease_end: int = 0
    head: int = 0
    run_sequence: int = 0
    numbers: list[int] = dataclasses.field(default_factory=list)
    told: dict[int, list[int]] = dataclasses.field(default_factory=dict)
    true_claim: Claim | None = None
    claims: int = 0

    @property
    def run(self) -> tuple[int, int]:
        """Its name."""
        return self.id, self.attempt


class Store:
    """Time is a number that only grows; `capacity` is processes by trainer; each trainer has its number as a label."""

    def __init__(self, capacity: list[int]) -> None:
        self.now = 0
        self.capacity = capacity
        self.rows: list[Row] = []

    # ---- callers

    def create(self, processes: int, labels: dict[str, str]) -> None:
        row = Row(len(self.rows), processes, labels)
        self.rows.append(row)
        self._record(row)

    def cancel(self, row: Row) -> None:
        self._ask(row, self.after_cancel(row.state), "cancel")

    def pause(self, row: Row) -> None:
        if row.state in (State.STARTING, State.RUNNING):
            self._ask(row, transitions.after_pause(row.state), "pause")

    def resume(self, row: Row) -> None:
        if row.state is State.PAUSED:
            self._ask(row, transitions.after_resume(row.state), "resume")

    # ---- task managers

    def claim(self, row: Row, owner: int, runner: int) -> Claim | None:
        if row.state is not State.QUEUED or not self.is_due(row) or not self.has_room(row, runner):
            return None
        row.attempt, row.runner, row.epoch = row.attempt + 1, runner, self.next_epoch(row)
        row.run_sequence, row.owner, row.lease_end = 0, owner, self.now + LEASE
        self.move(row, Change(State.STARTING, "claimed"))
        self._check_claim(row)
        row.claims += 1
        row.true_claim = Claim(row.id, row.claims, owner)
        return Claim(row.id, row.epoch, owner)

    def adopt(self, owner: int) -> None:
        for row in self.rows:
            if row.state in ACTIVE and (row.owner is None or row.lease_end < self.now):
                row.owner, row.lease_end = owner, self.now + LEASE
                row.true_claim = Claim(row.id, row.claims, owner)

    def renew(self, owner: int) -> None:
        for row in self.rows:
            if row.owner == owner:
                row.lease_end = self.now + LEASE

    def owned(self, owner: int) -> list[tuple[Claim, Row]]:
        return [(Claim(row.id, row.epoch, owner), row) for row in self.rows if row.owner == owner and row.state in ACTIVE]

    def read(self, claim: Claim) -> Row:
        """As it is now; a copy, because it grows old."""
        row = self.rows[claim.task]
        if not self.accepts(row, claim):
            raise Stale
        return dataclasses.replace(row)

    def append(self, claim: Claim, run: tuple[int, int], after: int, events: list[int]) -> int:
        row = self._owned(claim)
        if self.is_repeat(row, after):
            return row.run_sequence
        if self.is_gap(row, after):
            raise Gap
        if row.state is State.STARTING:
            self.move(row, Change(State.RUNNING, "it trains"))
        if run != row.run:
            raise Broken(f"events of {run} are stored for {row.run}")
        for event in events:
            row.head = self.next_number(row)
            row.numbers.append(row.head)
            row.told.setdefault(row.attempt, []).append(event)
        row.run_sequence = after + len(events)
        self._check_events(row)
        return row.run_sequence

    def finish(self, claim: Claim, change: Change, journal: int | None = None) -> None:
        """`journal`: how many events the run has that ended."""
        row = self._owned(claim)
        for step in self.moves(row.state, change):
            self.move(row, step)
        if row.state is State.SUCCEEDED and len(row.told.get(row.attempt, [])) != journal:
            raise Broken(f"{row.run} has succeeded with {row.told.get(row.attempt)} of {journal} events")

    def lose(self, claim: Claim) -> None:
        row = self._owned(claim)
        failure, retry = Change(State.FAILED, "lost too often", error=b""), Change(State.QUEUED, "lost")
        loss = self.after_loss(row.state, row.lost, MOST_LOST, failure, retry)
        row.lost, row.due = loss.lost_runs, self.now + REST
        if row.lost > MOST_LOST:
            raise Broken(f"{row.run} is the {row.lost}th run that was lost")
        self.move(row, loss.change)

    # ---- the rules, one by one, so that each can be broken

    after_cancel = staticmethod(transitions.after_cancel)
    moves = staticmethod(moves)
    after_loss = staticmethod(after_loss)

    def is_due(self, row: Row) -> bool:
        return row.due <= self.now

    def has_room(self, row: Row, runner: int) -> bool:
        return self.taken(runner) + row.processes <= self.capacity[runner]

    def next_epoch(self, row: Row) -> int:
        return row.epoch + 1

    def next_number(self, row: Row) -> int:
        return row.head + 1

    def accepts(self, row: Row, claim: Claim) -> bool:
        return row.epoch == claim.epoch and row.owner == claim.owner

    def is_repeat(self, row: Row, after: int) -> bool:
        return row.run_sequence > after

    def is_gap(self, row: Row, after: int) -> bool:
        return row.run_sequence < after

    def check_move(self, before: State, after: State) -> None:
        transitions.check(before, after)

    # ---- what it is made of

    def taken(self, runner: int) -> int:
        return sum(row.processes for row in self.rows if row.state in ACTIVE and row.runner == runner)

    def move(self, row: Row, change: Change) -> None:
        self.check_move(row.state, change.to)
        if change.to not in transitions.ALLOWED[row.state]:
            raise Broken(f"task {row.id} goes from {row.state.value} to {change.to.value}")
        row.state = change.to
        if row.state not in ACTIVE:
            row.owner = row.true_claim = None
        self._record(row)

    def _ask(self, row: Row, target: State, reason: str) -> None:
        if target is not row.state:
            self.move(row, Change(target, reason))

    def _owned(self, claim: Claim) -> Row:
        row = self.rows[claim.task]
        if not self.accepts(row, claim):
            raise Stale
        truth = row.true_claim
        if truth is None or truth.owner != claim.owner or truth.epoch != claim.epoch:
            raise Broken(f"a write under {claim} is accepted; the owner is {truth}")
        return row

    def _record(self, row: Row) -> None:
        row.head = self.next_number(row)
        row.numbers.append(row.head)
        self._check_events(row)

    def _check_claim(self, row: Row) -> None:
        if row.due > self.now:
            raise Broken(f"task {row.id} is claimed {row.due - self.now} before its time")
        if row.labels.get("number", str(row.runner)) != str(row.runner):
            raise Broken(f"task {row.id} asks for {row.labels} and is claimed for trainer {row.runner}")
        if self.taken(row.runner) > self.capacity[row.runner]:
            raise Broken(f"trainer {row.runner} is promised {self.taken(row.runner)} of {self.capacity[row.runner]} processes")

    @staticmethod
    def _check_events(row: Row) -> None:
        if row.numbers[-1] != len(row.numbers):
            raise Broken(f"task {row.id} has the numbers {row.numbers}")
        told = row.told.get(row.attempt)
        if told and told[-1] != len(told):
            raise Broken(f"{row.run} is told as {told}")
