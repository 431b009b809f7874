"""Gathers what is known about a task and plans it; used by PlanTask."""

import asyncio
import datetime
from collections.abc import Sequence
from typing import Protocol

from services.common.errors import ServiceError
from services.task_manager.domain.findings import Findings, Machines
from services.task_manager.domain.fine_tuning import FineTuning
from services.task_manager.domain.plan import Plan, estimate, make_plan
from services.task_manager.domain.throughput import RunSpeed
from services.task_manager.inquiry import Inquiry
from services.task_manager.storage_port import Storage
from services.task_manager.trainer_port import Capacity, Trainer


class Speeds(Protocol):
    """RunSpeeds, as far as a plan needs it."""

    async def of(self, base_model: str) -> Sequence[RunSpeed]:
        """See RunSpeeds."""


class Planning:
    """`trainers` are asked what they can do; those that do not answer are left out."""

    def __init__(self, inquiry: Inquiry, storage: Storage, speeds: Speeds, trainers: Sequence[Trainer]) -> None:
        self._inquiry = inquiry
        self._storage = storage
        self._speeds = speeds
        self._trainers = trainers

    async def plan(self, ask: FineTuning, *, patience: float) -> Plan:
        """What the task would do; waits `patience` seconds for token counts. Raises as `Inquiry.about` does."""
        findings = await self._inquiry.about(ask, patience=patience, compare=True)
        shape = await self._storage.model_shape(ask.base_model)
        machines = _machines(await asyncio.gather(*(_capacity(trainer) for trainer in self._trainers)))
        return make_plan(findings, machines, shape, await self._speeds.of(ask.base_model))

    async def expected_duration(self, findings: Findings) -> datetime.timedelta | None:
        """How long training will take by the speed of earlier runs; None when none was like it. Asks no trainer."""
        return estimate(findings, Machines(), await self._speeds.of(findings.ask.base_model))[0]


def _machines(capacities: Sequence[Capacity | None]) -> Machines:
    known = [capacity for capacity in capacities if capacity is not None]
    speeds = [capacity.flops_per_second for capacity in known if capacity.flops_per_second > 0]
    return Machines(
        most_processes=max((capacity.total_processes for capacity in known), default=0),
        flops_per_second=min(speeds, default=0.0),
        memory_bytes=max((capacity.total_memory_bytes for capacity in known), default=0),
    )


async def _capacity(trainer: Trainer) -> Capacity | None:
    try:
        return await trainer.capacity()
    except ServiceError:
        return None
