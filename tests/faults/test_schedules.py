"""Seeded trouble against real Postgres, two real task managers and two stand-in trainers; the long form is `make bench`."""

import pathlib

import pytest

from tests.faults.schedule import play

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_promise_is_broken(postgres_dsn: str, tmp_path: pathlib.Path, seed: int) -> None:
    played = await play(postgres_dsn, tmp_path, seed, seconds=5)
    assert played.broken == [], f"seed {seed}"
    assert played.tally["runs"] >= 3, "nothing has happened"


async def test_no_two_runs_of_a_task_work_at_once_on_strict_trainers(postgres_dsn: str, tmp_path: pathlib.Path) -> None:
    played = await play(postgres_dsn, tmp_path, 3, seconds=7, strict=True)
    assert played.broken == []
    assert played.tally["runs"] >= 3, "nothing has happened"
