"""How large a run may be, and how large one could start now; made by the dispatcher, told to waiting tasks by the queue."""

import dataclasses
from collections.abc import Mapping
from typing import Self

from services.task_manager.trainer_port import Capacity

_NO_LIMIT = 2**31 - 1


@dataclasses.dataclass(frozen=True, slots=True)
class Room:
    """Processes."""

    largest: int = _NO_LIMIT
    """No run can have more."""
    free: int = 0
    """Free on the trainer with the most room."""

    @classmethod
    def of(cls, capacities: Mapping[str, Capacity], free: Mapping[str, int], *, everyone: bool) -> Self:
        """`free` are processes nobody has claimed; `everyone`: no trainer is silent, so none can be larger than those known."""
        known = everyone and capacities
        largest = max(capacity.total_processes for capacity in capacities.values()) if known else _NO_LIMIT
        return cls(largest, max(free.values(), default=0))
