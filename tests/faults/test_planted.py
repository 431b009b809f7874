"""Every planted mistake is caught, by the check that is named beside it; without it the same scenario breaks nothing."""

import pathlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services import task_manager
from services.common.postgres import Pool, migrate, open_pool
from tests.faults.lab import Lab
from tests.faults.planted import BUGS

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(module_dsn: str) -> AsyncIterator[Pool]:
    """One database for all scenarios: each looks at its own tasks alone."""
    await migrate(module_dsn, "task_manager", pathlib.Path(task_manager.__file__).parent / "migrations")
    async with open_pool(module_dsn, application="lab") as opened:
        yield opened


@pytest.mark.parametrize("name", BUGS)
async def test_the_scenario_breaks_nothing_by_itself(pool: Pool, name: str) -> None:
    lab = Lab(pool)
    await BUGS[name].scenario(lab)
    assert await lab.verdict() == set()


@pytest.mark.parametrize("name", BUGS)
async def test_the_planted_mistake_is_caught(pool: Pool, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bug, lab = BUGS[name], Lab(pool)
    bug.plant(monkeypatch.setattr)
    await bug.scenario(lab)
    assert bug.caught_by & await lab.verdict()
