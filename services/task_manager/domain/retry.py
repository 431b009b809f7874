"""What may change about a task that is tried again while it continues from a checkpoint; pure rules."""

import dataclasses
from collections.abc import Iterator

from services.common.changeable import CHANGEABLE
from services.common.errors import ServiceError, Violation
from services.task_manager.domain.hyperparameters import Hyperparameters
from services.task_manager.domain.task import State


def check_state(state: State) -> None:
    """Raises ServiceError TASK_NOT_ENDED_BADLY."""
    if state not in (State.FAILED, State.CANCELLED):
        raise ServiceError("TASK_NOT_ENDED_BADLY", f"the task is {state.value}")


def violations(before: Hyperparameters, after: Hyperparameters, step: int) -> Iterator[Violation]:
    """Every number that would make the checkpoint of `step` another task's."""
    for name in _different(before, after):
        if name not in CHANGEABLE:
            text = f"cannot change while the task continues from step {step}; set from_start to begin anew"
            yield Violation(f"hyperparameters.{name}", text)
    if after.max_steps is not None and after.max_steps <= step and "max_steps" in _different(before, after):
        yield Violation(
            "hyperparameters.max_steps", f"{after.max_steps} steps are done already: the checkpoint is of step {step}"
        )


def _different(before: Hyperparameters, after: Hyperparameters) -> list[str]:
    """Names of numbers that are not the same; those of groups dotted."""
    found = []
    for field in dataclasses.fields(before):
        one, other = getattr(before, field.name), getattr(after, field.name)
        if not dataclasses.is_dataclass(one):
            found += [field.name] if one != other else []
            continue
        inner = [part.name for part in dataclasses.fields(one)]
        found += [f"{field.name}.{name}" for name in inner if getattr(one, name) != getattr(other, name)]
    return found
