"""However long Postgres was away, the pool soon finds that it is back."""

import itertools

import pytest
from psycopg_pool.base import AttemptWithBackoff

from services.common.errors import Unavailable
from services.common.postgres import open_pool, session
from tunesmith.local.ports import pick_free


def pauses(timeout: float, outage: float) -> list[float]:
    """Seconds between the tries of a pool, each of which fails at once; when it gives up, the next caller makes it begin anew."""
    times, now = [], 0.0
    while now < outage:
        attempt = AttemptWithBackoff(timeout=timeout)
        while now < outage:
            times.append(now)
            if attempt.time_to_give_up(now):
                break
            attempt.update_delay(now)
            now += attempt.delay
    return [after - before for before, after in itertools.pairwise(times)]


async def test_the_pause_between_two_tries_does_not_grow_with_the_outage() -> None:
    async with open_pool(f"postgresql://nobody@127.0.0.1:{pick_free(1)[0]}/none", application="test") as pool:
        timeout = pool.reconnect_timeout
    assert max(pauses(timeout, 60)) <= 3
    assert max(pauses(timeout, 3600)) <= 3
    assert max(pauses(300, 3600)) > 100, "what it would be without"


async def test_nobody_answers_and_a_caller_is_told_so() -> None:
    async with open_pool(f"postgresql://nobody@127.0.0.1:{pick_free(1)[0]}/none", application="test") as pool:
        pool.timeout = 0.1
        with pytest.raises(Unavailable, match="Postgres did not answer"):
            async with session(pool):
                pass
