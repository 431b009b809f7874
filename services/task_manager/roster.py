"""The trainers this task manager knows, and what they last said; used by the dispatcher, plans and the list of runners."""

import asyncio
import dataclasses
import datetime
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence

import structlog

from services.common.errors import ServiceError
from services.task_manager.domain.placement import ANY_MEMORY, Machine
from services.task_manager.domain.versions import is_compatible
from services.task_manager.domain.waiting import Trainers
from services.task_manager.trainer_port import Capacity, Trainer, TrainerAt

log = structlog.get_logger()

VERSION = importlib.metadata.version("tunesmith")


@dataclasses.dataclass(frozen=True, slots=True)
class Heard:
    """What a trainer last said, and when."""

    capacity: Capacity
    time: datetime.datetime


class Roster:
    """`by_memory`: whether the memory of trainers counts."""

    def __init__(
        self, trainer_at: TrainerAt, addresses: Sequence[str], now: Callable[[], datetime.datetime], *, by_memory: bool = True
    ) -> None:
        self.trainers: Mapping[str, Trainer] = {address: trainer_at(address) for address in addresses}
        """By address."""
        self.heard: dict[str, Heard] = {}
        """By address, of those that have ever answered."""
        self._now = now
        self._by_memory = by_memory
        self._silent: frozenset[str] = frozenset()
        self._knocks: dict[str, asyncio.Task[Capacity | None]] = {}
        """Questions to silent ones that nobody waits for, by address."""

    async def ask(self, *, patient: bool = True) -> Trainers:
        """All of them, what they can take now.

        One that swallows questions takes until their deadline. Without patience that is waited for once: it counts as silent
        from then on and is asked beside the others, until it has answered.
        """
        asked = [address for address in self.trainers if patient or self._is_waited_for(address)]
        answers = await asyncio.gather(*(_capacity(self.trainers[address]) for address in asked))
        known = {address: answer for address, answer in zip(asked, answers, strict=True) if answer}
        self.heard |= {address: Heard(capacity, self._now()) for address, capacity in known.items()}
        silent = frozenset(self.trainers.keys() - known.keys())
        if silent != self._silent:
            log.warning("trainers.changed", silent=sorted(silent), answering=sorted(known))
            self._silent = silent
        return Trainers(
            [self._machine(address, one) for address, one in known.items() if takes_runs(one)],
            sorted(silent),
            {address: one.version for address, one in known.items() if not takes_runs(one)},
        )

    def _is_waited_for(self, address: str) -> bool:
        if address not in self._silent:
            return True
        knock = self._knocks.pop(address, None)
        # What a late answer says may have changed since: it only shows that asking is worth waiting for.
        if knock is not None and knock.done() and knock.result() is not None:
            return True
        if knock is None or knock.done():
            knock = asyncio.create_task(_capacity(self.trainers[address]))
        self._knocks[address] = knock
        return False

    def flops_per_second(self, labels: Mapping[str, str]) -> float:
        """Of the slowest trainer with these labels that has been measured, by what they last said; 0 = not known."""
        speeds = [
            one.capacity.flops_per_second
            for one in self.heard.values()
            if takes_runs(one.capacity) and labels.items() <= one.capacity.labels.items()
        ]
        return min((speed for speed in speeds if speed > 0), default=0.0)

    async def labels(self) -> list[Mapping[str, str]]:
        """Of all trainers that were ever heard of and take runs, by what they say now or said last."""
        await self.ask()
        return [one.capacity.labels for one in self.heard.values() if takes_runs(one.capacity)]

    def _machine(self, address: str, one: Capacity) -> Machine:
        machine = Machine(address, one.total_processes, one.free_processes, one.labels, fenced_after=one.fenced_after)
        # What a run needs is estimated for a processor: on a GPU, most of it lies elsewhere.
        if not self._by_memory or one.device == "cuda" or one.total_memory_bytes <= 0:
            return machine
        free = one.free_memory_bytes if one.free_memory_bytes > 0 else ANY_MEMORY
        return dataclasses.replace(machine, total_memory=one.total_memory_bytes, free_memory=min(free, one.total_memory_bytes))


def takes_runs(capacity: Capacity) -> bool:
    """Whether the trainer's version fits that of this task manager."""
    return is_compatible(VERSION, capacity.version)


async def _capacity(trainer: Trainer) -> Capacity | None:
    try:
        return await trainer.capacity()
    except ServiceError as error:
        log.debug("trainer.silent", reason=error.reason, message=error.message)
        return None
