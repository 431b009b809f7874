"""Sixty days of retention over the fakes: 10,000 steps."""

import asyncio
import dataclasses
import datetime
from collections.abc import Callable, Collection
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from structlog.testing import capture_logs
from unit.storage import retention_fakes
from unit.storage.fakes import MemoryObjectStore, repositories_of
from unit.storage.memory_tables import Clock, Tables
from unit.storage.retention_machine import RetentionMachine, World

from services.storage import retention, sweeper
from services.storage.object_store import ObjectStore
from services.storage.pending_object_repository import PendingObjectRepository
from services.storage.retention import Life


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


def sixty_days(steps: int, **options: Any) -> None:
    """That many steps, 50 of them a life."""
    options = {"deadline": None, "suppress_health_check": list(HealthCheck)} | options
    limits = settings(max_examples=steps // 50, stateful_step_count=50, **options)
    # Written out, the log takes longer than the steps.
    with capture_logs():
        run_state_machine_as_test(MemoryMachine, settings=limits)


def test_sixty_days_lose_nothing_and_keep_nothing_too_long() -> None:
    sixty_days(10_000)


def ignore_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    due = Life.due_time.fget
    monkeypatch.setattr(Life, "due_time", property(lambda life: due(dataclasses.replace(life, pinned=False))))


def ignore_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tables, "files", lambda tables: iter(()))


def announce_again(monkeypatch: pytest.MonkeyPatch) -> None:
    announce = Tables.announce
    monkeypatch.setattr(Tables, "announce", lambda *args, **what: (announce(*args, **what), announce(*args, **what))[0])


def forget_before_removing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def remove(store: ObjectStore, records: PendingObjectRepository, keys: Collection[str]) -> list[str]:
        await records.forget(keys)
        return list(keys)

    monkeypatch.setattr(sweeper, "remove_objects", remove)
    monkeypatch.setattr(retention, "ORPHAN_WAIT", datetime.timedelta(days=9000))
    monkeypatch.setattr(retention_fakes, "ORPHAN_WAIT", datetime.timedelta(days=9000))


@pytest.mark.parametrize("mistake", [ignore_pins, ignore_references, announce_again, forget_before_removing])
def test_a_planted_mistake_is_found(mistake: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    mistake(monkeypatch)
    with pytest.raises((AssertionError, KeyError)):
        sixty_days(2_000, phases=[Phase.generate], database=None, derandomize=True)
