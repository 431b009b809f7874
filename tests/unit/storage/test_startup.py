"""The start waits for what is away, for a while."""

import psycopg
import pytest

from services.common.errors import Unavailable
from services.storage.startup import wait_for


class Dependency:
    """Fails as often as told."""

    def __init__(self, failures: list[Exception]) -> None:
        self.failures = failures
        self.calls = 0

    async def __call__(self) -> None:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)


async def test_it_tries_until_the_dependency_is_there() -> None:
    dependency = Dependency([psycopg.OperationalError("refused"), Unavailable("OBJECT_STORE_UNAVAILABLE", "refused")])
    await wait_for(dependency, "s3", timeout=60)
    assert dependency.calls == 3


async def test_it_gives_up_with_the_last_failure() -> None:
    dependency = Dependency([psycopg.OperationalError(str(n)) for n in range(9)])
    with pytest.raises(psycopg.OperationalError, match="0"):
        await wait_for(dependency, "postgres", timeout=0)
    assert dependency.calls == 1


async def test_what_waiting_cannot_mend_is_raised_at_once() -> None:
    dependency = Dependency([psycopg.ProgrammingError("bad DSN")])
    with pytest.raises(psycopg.ProgrammingError):
        await wait_for(dependency, "postgres", timeout=60)
    assert dependency.calls == 1
