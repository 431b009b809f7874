"""The core of the task manager under 10,000 seeds of trouble, and the same with planted mistakes, each of which is found."""

import pytest
from simulated_store import MOST_LOST, Broken, Claim, Row, Store
from simulated_trainer import Away, NotFound, Trainer
from simulated_world import World

from services.task_manager.domain.attempt import Loss
from services.task_manager.domain.task import Change, State
from services.task_manager.domain.transitions import IllegalTransition

SEEDS = 10_000
PARTS = 20


@pytest.mark.parametrize("part", range(PARTS))
def test_no_seed_breaks_a_promise(part: int) -> None:
    for seed in range(part * SEEDS // PARTS, (part + 1) * SEEDS // PARTS):
        try:
            World(seed).run()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error


def test_a_seed_always_gives_the_same_history() -> None:
    worlds = [World(7), World(7)]
    for world in worlds:
        world.run()
    one, other = ([(row.state, row.attempt, row.numbers, row.told) for row in world.store.rows] for world in worlds)
    assert one == other


def test_trouble_is_really_made() -> None:
    """Otherwise nothing would be shown: attempts, losses, pauses and every end occur."""
    rows = [row for seed in range(300) for row in finished(seed).store.rows]
    assert {row.state for row in rows} == {State.SUCCEEDED, State.FAILED, State.CANCELLED}
    assert max(row.attempt for row in rows) >= 3
    assert max(row.lost for row in rows) == MOST_LOST
    assert sum(row.attempt > 1 for row in rows) > 100


def finished(seed: int) -> World:
    world = World(seed)
    world.run()
    return world


# ---- planted mistakes


class NoEpoch(Store):
    """The owner is compared, the epoch is not."""

    def accepts(self, row: Row, claim: Claim) -> bool:
        return row.owner == claim.owner


class NoOwner(Store):
    """The epoch is compared, the owner is not."""

    def accepts(self, row: Row, claim: Claim) -> bool:
        return row.epoch == claim.epoch


class NoFence(Store):
    """Whoever writes, writes."""

    def accepts(self, row: Row, claim: Claim) -> bool:
        return True


class TrustsTheLease(Store):
    """Who once had the task may write until the lease in the row has run out, whoever's it is."""

    def accepts(self, row: Row, claim: Claim) -> bool:
        return row.lease_end >= self.now


class SameEpoch(Store):
    """A new attempt has the epoch of the one before."""

    def next_epoch(self, row: Row) -> int:
        return max(1, row.epoch)


class LateCancelWins(Store):
    """Cancelling changes what has ended."""

    @staticmethod
    def after_cancel(state: State) -> State:
        return State.CANCELLED if state.is_terminal or state is State.QUEUED else State.CANCELLING

    def check_move(self, before: State, after: State) -> None:
        pass


class CancelIsForgotten(Store):
    """A run that is lost while it is being cancelled is queued again."""

    @staticmethod
    def after_loss(state: State, lost: int, most: int, failure: Change, retry: Change) -> Loss:
        return Loss(lost + 1, retry if lost + 1 < most else failure)


class LossesAreNotCounted(Store):
    """A run may be lost again and again."""

    @staticmethod
    def after_loss(state: State, lost: int, most: int, failure: Change, retry: Change) -> Loss:
        target = {State.PAUSING: Change(State.PAUSED, "p"), State.CANCELLING: Change(State.CANCELLED, "c")}
        return Loss(lost + (state is not State.PAUSING), target.get(state, retry))


class RepeatsAreStored(Store):
    """An append that was made already is made again."""

    def is_repeat(self, row: Row, after: int) -> bool:
        return False

    def is_gap(self, row: Row, after: int) -> bool:
        return False


class NumbersOfASequence(Store):
    """Numbers come from a counter that stays advanced when nothing is stored after all."""

    def is_repeat(self, row: Row, after: int) -> bool:
        row.head += super().is_repeat(row, after)
        return super().is_repeat(row, after)


class RoomIsNotCounted(Store):
    """Two task managers promise the same processes."""

    def has_room(self, row: Row, runner: int) -> bool:
        return True


class NoRest(Store):
    """A task is claimed before its time."""

    def is_due(self, row: Row) -> bool:
        return True


class NobodyAdopts(Store):
    """The tasks of a dead owner stay its own."""

    def adopt(self, owner: int) -> None:
        pass


class AdoptsByKilling(Store):
    """An adoption begins a new attempt's numbering for the run that goes on."""

    def adopt(self, owner: int) -> None:
        before = [row.owner for row in self.rows]
        super().adopt(owner)
        for row, previous in zip(self.rows, before, strict=True):
            if row.owner != previous:
                row.run_sequence = 0


class SilenceIsDeath(World):
    """A trainer that does not answer has lost the run."""

    def follow(self, trainer: Trainer, row: Row) -> tuple[list[int], object]:
        try:
            return super().follow(trainer, row)
        except Away:
            raise NotFound from None


class EndsEarly(World):
    """The end of a run is recorded before its last events."""

    def has_more(self, journal: int, stored: int) -> bool:
        return False


class ImpatientWithStrictTrainers(World):
    """The run of a strict trainer is given elsewhere before that has ended it."""

    def has_fenced_itself(self, trainer: int, silence: int) -> bool:
        return self.trainers[trainer].is_strict


class LabelsAreForgotten(World):
    """Whoever is free takes a task, whatever labels it asks for."""

    def asked_labels(self, row: Row) -> dict[str, str]:
        return {}


MISTAKES = [
    NoEpoch, NoOwner, NoFence, TrustsTheLease, SameEpoch, LateCancelWins, CancelIsForgotten, LossesAreNotCounted,
    RepeatsAreStored, NumbersOfASequence, RoomIsNotCounted, NoRest, NobodyAdopts, AdoptsByKilling, SilenceIsDeath, EndsEarly,
    LabelsAreForgotten, ImpatientWithStrictTrainers,
]  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_each_planted_mistake_is_found(mistake: type[Store] | type[World]) -> None:
    for seed in range(SEEDS):
        world = mistake(seed) if issubclass(mistake, World) else World(seed, mistake)
        try:
            world.run()
        except (Broken, IllegalTransition):
            return
    pytest.fail(f"{SEEDS} seeds found nothing")
