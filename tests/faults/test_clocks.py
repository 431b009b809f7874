"""Only the database's clock decides: task managers whose own clocks are days and time zones apart share the work as ever."""

import pathlib
import random
from collections import Counter

import pytest

from services.common.postgres import open_pool
from tests.faults.callers import Callers
from tests.faults.readers import Readers
from tests.faults.schedule import settle
from tests.faults.world import world_of

pytestmark = pytest.mark.integration

DAY = 86_400


async def test_clocks_that_are_days_apart_decide_nothing(
    postgres_dsn: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shifts = ({"TUNESMITH_TEST_SHIFT_SECONDS": str(3 * DAY)}, {"TUNESMITH_TEST_SHIFT_SECONDS": str(-3 * DAY), "TZ": "Asia/Tokyo"})
    module = "tests.faults.shifted_manager"
    async with world_of(postgres_dsn, tmp_path, module=module, environments=shifts) as world:
        callers = Callers(world.managers, random.Random(1))
        for _ in range(12):
            await callers.create(0)
        played = await settle(postgres_dsn, world, callers, Readers(world, random.Random(2)), Counter())
        async with open_pool(postgres_dsn, application="test") as pool, pool.connection() as connection:
            rows = await (
                await connection.execute("SELECT attempt, lost_run_count, create_time FROM task_manager.task")
            ).fetchall()
            [now] = await (await connection.execute("SELECT now() AS now")).fetchall()
    assert played.broken == []
    assert {(row["attempt"], row["lost_run_count"]) for row in rows} == {(1, 0)}, "nobody took over from a living owner"
    assert all(abs((row["create_time"] - now["now"]).total_seconds()) < DAY for row in rows), "what is stored is the database's"
