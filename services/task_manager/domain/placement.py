"""Whether a run fits on a trainer: by labels, processes and memory; pure, used by the schedule, claims and sentences."""

import dataclasses
import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, Self

ANY_MEMORY = 2**62
"""Bytes of a machine of whose memory nothing is known: whatever is asked for fits."""
_LESS = "; less per_device_train_batch_size or max_seq_length needs less"


class Held(Protocol):
    """What a run holds of its trainer."""

    @property
    def processes(self) -> int:
        """At least 1."""

    @property
    def memory_bytes(self) -> int:
        """That it is expected to need at its peak, all processes together; 0 = not known, and then not counted."""


class Need(Held, Protocol):
    """What a task asks of a trainer."""

    @property
    def runner_labels(self) -> Mapping[str, str]:
        """Labels that a trainer must have."""


@dataclasses.dataclass(frozen=True, slots=True)
class Placement:
    """A need by itself."""

    processes: int = 1
    memory_bytes: int = 0
    runner_labels: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Machine:
    """A trainer that answers; `free` processes and `free_memory` bytes are neither in use nor claimed."""

    trainer: str
    total: int
    free: int
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    total_memory: int = ANY_MEMORY
    free_memory: int = ANY_MEMORY
    fenced_after: datetime.timedelta | None = None
    """After so long a silence it has ended its runs by itself; None = they go on."""

    def has_labels(self, labels: Mapping[str, str]) -> bool:
        """Whether it has all of these."""
        return labels.items() <= self.labels.items()

    def suits(self, need: Need) -> bool:
        """Whether it could take this if nothing else were there."""
        return need.processes <= self.total and need.memory_bytes <= self.total_memory and self.has_labels(need.runner_labels)

    def has_room(self, need: Need) -> bool:
        """Whether it could take this now."""
        return need.processes <= self.free and need.memory_bytes <= self.free_memory and self.suits(need)

    def without(self, run: Held) -> Self:
        """Once it has this run, too."""
        return dataclasses.replace(self, free=self.free - run.processes, free_memory=self.free_memory - run.memory_bytes)

    def regained(self, run: Held) -> Self:
        """Once this run has ended."""
        free, memory = self.free + run.processes, self.free_memory + run.memory_bytes
        return dataclasses.replace(self, free=min(free, self.total), free_memory=min(memory, self.total_memory))


def bound_by_claims(machine: Machine, runs: Iterable[Held]) -> Machine:
    """With no more room than `runs` leave, which it may not know of yet."""
    held = list(runs)
    processes = machine.total - sum(run.processes for run in held)
    memory = machine.total_memory - sum(run.memory_bytes for run in held)
    return dataclasses.replace(
        machine, free=max(0, min(machine.free, processes)), free_memory=max(0, min(machine.free_memory, memory))
    )


def labels_text(labels: Mapping[str, str]) -> str:
    """For people: sorted, as they are set."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def why_none_suits(need: Need, machines: Sequence[Machine]) -> str:
    """Why none of these could take it even if nothing else were there, in one clause; empty when one could, or there is none."""
    if not machines:
        return ""
    labelled = [machine for machine in machines if machine.has_labels(need.runner_labels)]
    if not labelled:
        return f"no runner with {labels_text(need.runner_labels)} is there"
    whose = f" with {labels_text(need.runner_labels)}" if need.runner_labels else ""
    if need.processes > (largest := max(machine.total for machine in labelled)):
        return f"needs {need.processes} processes; the largest trainer{whose} has {largest}"
    large = [machine for machine in labelled if machine.total >= need.processes]
    if need.memory_bytes > (memory := max(machine.total_memory for machine in large)):
        whose += " with so many processes" if len(large) < len(labelled) else ""
        most = f"the largest trainer{whose} has {gigabytes(memory)}"
        return f"needs about {gigabytes(need.memory_bytes)} of memory; {most}{_LESS}"
    return ""


def gigabytes(size: int) -> str:
    """For people."""
    return f"{size / 1e9:.1f} GB"
