"""Totals of a filter are exact, or say that they are not; counting has an end, whatever is asked for."""

import dataclasses

import pytest
from integration.task_manager.test_repositories import Owner, a_new_task

from services.common.postgres import Pool
from services.task_manager import filtered_totals
from services.task_manager.domain.task import State
from services.task_manager.domain.task_filter import TaskFilter
from services.task_manager.filtered_totals import Total
from services.task_manager.task_listing import TaskListing

pytestmark = pytest.mark.integration

TEAM = TaskFilter(labels={"team": "a"})
OTHERS = TaskFilter(labels={"team": "b"})


@pytest.fixture
async def owner(pool: Pool) -> Owner:
    """Oldest first: two tasks of team a, a cancelled one of it, three of team b."""
    owner = Owner(pool)
    for team in "aaabbb":
        task = await owner.tasks.create(dataclasses.replace(a_new_task(), display_name=team * 3, labels={"team": team}))
        if team == "a":
            last = task
    await owner.tasks.cancel(last.id, "")
    return owner


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting everything takes longer than anybody waits."""
    monkeypatch.setattr(
        filtered_totals, "_COUNT", "SELECT pg_sleep(600), " + filtered_totals._COUNT.strip().removeprefix("SELECT")
    )


async def test_what_is_counted_in_time_is_exact(pool: Pool, owner: Owner) -> None:
    listing = TaskListing(pool)
    assert await listing.totals(TEAM) == {State.QUEUED: Total(2), State.CANCELLED: Total(1)}
    assert await listing.totals(dataclasses.replace(TEAM, states=[State.CANCELLED])) == {State.CANCELLED: Total(1)}
    assert await listing.totals(TaskFilter(labels={"team": "c"})) == {}


async def test_what_takes_too_long_is_told_by_the_newest_of_each_state(
    pool: Pool, owner: Owner, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = TaskListing(pool)
    assert await listing.totals(TEAM) == {State.QUEUED: Total(2), State.CANCELLED: Total(1)}, "all tasks are the newest"
    monkeypatch.setattr(filtered_totals, "_LOOKED_AT", 4)
    assert await listing.totals(TEAM) == {State.QUEUED: Total(1, at_least=True), State.CANCELLED: Total(1)}
    monkeypatch.setattr(filtered_totals, "_LOOKED_AT", 3)
    assert await listing.totals(TEAM) == {State.QUEUED: Total(0, at_least=True), State.CANCELLED: Total(1)}, "nobody knows"
    assert await listing.totals(OTHERS) == {State.QUEUED: Total(3, at_least=True)}
    assert await listing.totals(dataclasses.replace(TEAM, states=[State.CANCELLED])) == {State.CANCELLED: Total(1)}
    assert await listing.totals(dataclasses.replace(TEAM, states=[State.QUEUED], text="a")) == {
        State.QUEUED: Total(0, at_least=True)
    }


async def test_what_finds_many_is_told_by_the_first_and_by_the_newest(
    pool: Pool, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filtered_totals, "_PATIENCE_MS", 60_000)
    listing = TaskListing(pool)
    monkeypatch.setattr(filtered_totals, "_COUNTED", 4)
    assert await listing.totals(TEAM) == {State.QUEUED: Total(2), State.CANCELLED: Total(1)}, "fewer than that are all"
    monkeypatch.setattr(filtered_totals, "_COUNTED", 3)
    assert await listing.totals(TEAM) == {State.QUEUED: Total(2), State.CANCELLED: Total(1)}, "the newest are all"
    monkeypatch.setattr(filtered_totals, "_LOOKED_AT", 3)
    assert await listing.totals(TEAM) == {State.QUEUED: Total(2, at_least=True), State.CANCELLED: Total(1)}, "the first say more"
    monkeypatch.setattr(filtered_totals, "_COUNTED", 1)
    assert (await listing.totals(OTHERS))[State.QUEUED] == Total(3, at_least=True), "the newest say more"


async def test_without_a_filter_all_are_exact_whatever_that_takes(pool: Pool, owner: Owner, impatient: None) -> None:
    assert await TaskListing(pool).totals(TaskFilter()) == {State.QUEUED: Total(5), State.CANCELLED: Total(1)}


async def test_the_connection_is_as_patient_as_before(pool: Pool, owner: Owner, impatient: None) -> None:
    await TaskListing(pool).totals(TEAM)
    async with pool.connection() as connection:
        row = await (await connection.execute("SELECT current_setting('statement_timeout') AS patience")).fetchone()
    assert row == {"patience": "0"}
