"""What the judge of literal outages says of runs that were lost; the outages themselves are in `make bench`."""

import random
from collections.abc import Sequence

import pytest

from services.task_manager.domain.task import State
from tests.faults.callers import Callers
from tests.faults.evidence import Evidence, Move, TaskEvidence
from tests.faults.fake_worker import DEAF, DIES_ONCE, FAILS, FAILS_ONCE
from tests.faults.outage import _for_nothing, _order

QUEUED, STARTING, RUNNING, PAUSED = State.QUEUED, State.STARTING, State.RUNNING, State.PAUSED


def found(manner: int, *states: State) -> list[str]:
    """What is said of a task that has been in these states, one after the other."""
    moves = [Move(before, after, 1) for before, after in zip((None, *states), states, strict=False)]
    task = TaskEvidence("one", "", states[-1], 1, "", 0, moves, [])
    callers = Callers([], random.Random(0))
    callers.manners["one"] = manner
    return [*_for_nothing(Evidence([task], {}), callers)]


@pytest.mark.parametrize("manner", [0, DEAF, FAILS_ONCE, DIES_ONCE], ids=["good", "deaf", "fails once", "dies once"])
def test_only_what_was_told_to_fail_may_fail(manner: int) -> None:
    assert found(manner, QUEUED, STARTING, RUNNING, State.FAILED) == ["failed one: an outage has ended it"]
    assert found(manner | FAILS, QUEUED, STARTING, RUNNING, State.FAILED) == []
    assert found(manner, QUEUED, STARTING, RUNNING, State.SUCCEEDED) == []


@pytest.mark.parametrize("states", [(STARTING, QUEUED), (STARTING, RUNNING, QUEUED)], ids=["starting", "running"])
def test_only_what_was_told_to_lose_a_run_may_lose_one(states: Sequence[State]) -> None:
    once, twice = (QUEUED, *states, STARTING, RUNNING), (QUEUED, *states, *states, STARTING)
    assert found(DEAF, *once) == ["failed one: an outage has cost it a run"]
    assert found(DIES_ONCE, *once) == found(FAILS_ONCE, *once) == []
    assert found(DIES_ONCE, *twice) == ["failed one: an outage has cost it a run"]


def test_a_task_that_was_paused_has_lost_nothing() -> None:
    assert found(0, QUEUED, STARTING, RUNNING, State.PAUSING, PAUSED, QUEUED, STARTING, RUNNING, State.SUCCEEDED) == []


def test_every_third_seed_takes_both_away_at_once_and_the_others_one_after_the_other() -> None:
    orders = [_order(seed, random.Random(seed)) for seed in range(30)]
    assert [len(order) for order in orders] == [1, 2, 2] * 10
    assert {what for order in orders for whats in order for what in whats} == {"database", "object store"}
    assert len({tuple(order) for order in orders}) == 3, "either comes first under some seed"
