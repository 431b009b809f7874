"""Sixty days of retention over the fakes: 10,000 steps."""

import asyncio
import datetime

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from structlog.testing import capture_logs
from unit.storage.fakes import MemoryObjectStore, repositories_of
from unit.storage.memory_tables import Clock, Tables
from unit.storage.retention_machine import RetentionMachine, World


class MemoryMachine(RetentionMachine):
    """Everything in memory."""

    def make_world(self) -> World:
        clock, self.runner = Clock(), asyncio.Runner()

        async def advance(by: datetime.timedelta) -> None:
            clock.time += by

        async def moment() -> datetime.datetime:
            return clock.now()

        return World(repositories_of(Tables(clock)), MemoryObjectStore(), advance, moment, self.runner.run)

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self.runner.close()


def sixty_days(steps: int) -> None:
    """That many steps, 50 of them a life."""
    limits = settings(max_examples=steps // 50, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck))
    # Written out, the log takes longer than the steps.
    with capture_logs():
        run_state_machine_as_test(MemoryMachine, settings=limits)


def test_sixty_days_lose_nothing_and_keep_nothing_too_long() -> None:
    sixty_days(10_000)
