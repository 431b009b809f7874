"""Gathers what is known about a task and plans it; used by PlanTask, and by CreateTask for what it records of a task's needs."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from services.task_manager.domain.findings import Findings
from services.task_manager.domain.fine_tuning import FineTuning
from services.task_manager.domain.plan import Plan, estimate, make_plan, peak_memory
from services.task_manager.domain.throughput import RunSpeed
from services.task_manager.inquiry import Inquiry
from services.task_manager.storage_port import Storage

FlopsPerSecond = Callable[[Mapping[str, str]], float]
"""Of the slowest trainer with these labels; 0 = not known."""


class Speeds(Protocol):
    """RunSpeeds, as far as a plan needs it."""

    async def of(self, base_model: str) -> Sequence[RunSpeed]:
        """See RunSpeeds."""


class Planning:
    """Asks storage and the records of earlier runs."""

    def __init__(self, inquiry: Inquiry, storage: Storage, speeds: Speeds, flops_per_second: FlopsPerSecond) -> None:
        self._inquiry = inquiry
        self._storage = storage
        self._speeds = speeds
        self._flops_per_second = flops_per_second

    async def plan(self, ask: FineTuning, runner_labels: Mapping[str, str], *, patience: float) -> Plan:
        """What the task would do on runners with these labels; waits `patience` seconds for token counts.

        Raises as `Inquiry.about` does.
        """
        findings = await self._inquiry.about(ask, patience=patience, compare=True)
        shape = await self._storage.model_shape(ask.base_model)
        return make_plan(findings, self._flops_per_second(runner_labels), shape, await self._speeds.of(ask.base_model))

    async def expected_duration(self, findings: Findings) -> datetime.timedelta | None:
        """How long training will take by the speed of earlier runs; None when none was like it."""
        return estimate(findings, 0.0, await self._speeds.of(findings.ask.base_model))[0]

    async def expected_memory(self, findings: Findings) -> int:
        """Bytes that the run will need at its peak, all processes together; 0 = not known."""
        return peak_memory(findings, await self._storage.model_shape(findings.ask.base_model))
