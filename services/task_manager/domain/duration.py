"""How long a task will train, from the speed of earlier runs or from the speed of the machine; used by PlanTask."""

import dataclasses
import datetime
import math

# Multiplications and additions per parameter and token: forward 2, gradients of activations 2, gradients of weights 2, and the
# last only where weights move (a frozen weight has none).
FULL, _FORWARD, _BACKWARD = 6, 2, 2

# Share of the measured arithmetic speed that training turns into operations counted so. Measured on 2026-11-24 on two cores with
# SmolLM2-135M, rows of 61 tokens, batches of 8, rank 16: 140 tokens per second beside products of 185 GFLOP/s, 102 beside 158.
UTILISATION = 0.38


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """What a run computes."""

    total_steps: int
    steps_per_epoch: int
    tokens_per_epoch: int
    validation_tokens: int
    """Tokens of one measurement of the validation loss; 0 = none."""
    eval_steps: int
    """Steps between two measurements; the last step is always one."""

    @property
    def training_tokens(self) -> float:
        """Tokens of the whole run."""
        return self.tokens_per_epoch * self.total_steps / self.steps_per_epoch

    @property
    def evaluations(self) -> int:
        """Measurements of the validation loss."""
        return math.ceil(self.total_steps / self.eval_steps) if self.validation_tokens and self.eval_steps else 0


def of_adapter(share: float) -> float:
    """Operations per parameter and token when this share of the layers, the last ones, has adapters."""
    return _FORWARD + share * _BACKWARD


def expected(work: Work, tokens_per_second: float, operations: float) -> datetime.timedelta:
    """From the first step to the last, measurements of the validation loss included; `operations` per parameter and token."""
    tokens = work.training_tokens + _FORWARD / operations * work.evaluations * work.validation_tokens
    return datetime.timedelta(seconds=tokens / tokens_per_second)


def speed_of_machine(flops_per_second: float, parameter_count: int, operations: float) -> float | None:
    """Tokens per second of a run, all processes of one machine together; None when nothing is known to judge by."""
    if not flops_per_second or not parameter_count:
        return None
    return flops_per_second * UTILISATION / (operations * parameter_count)
