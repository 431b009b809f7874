"""Shows every step and every validation to all detectors and reports what they find; used by the watch."""

import math
from collections.abc import Sequence
from typing import Protocol

from services.trainer.training.config import Hyperparameters
from services.trainer.training.diagnosis.idle_learning_rate import IdleLearningRate
from services.trainer.training.diagnosis.loss_spike import LossSpike
from services.trainer.training.diagnosis.observation import Finding, Observation
from services.trainer.training.diagnosis.overfitting import Overfitting
from services.trainer.training.diagnosis.plateau import Plateau
from services.trainer.training.events import EventSink
from services.trainer.training.schedule import warmup_steps


class StepDetector(Protocol):
    """Looks at steps, one after the other."""

    def step(self, seen: Observation) -> Finding | None:
        """What to say after this step, whose numbers are finite."""


class EvaluationDetector(Protocol):
    """Looks at validations, one after the other."""

    def evaluation(self, step: int, loss: float) -> Finding | None:
        """What to say after this validation loss, which is finite."""


class Detectors:
    """One attempt's. A run that continues has to watch for a while before its detectors know what is normal."""

    def __init__(self, steps: Sequence[StepDetector], evaluations: Sequence[EvaluationDetector], *, sink: EventSink) -> None:
        self._steps = steps
        self._evaluations = evaluations
        self._sink = sink

    @classmethod
    def over(cls, numbers: Hyperparameters, total_steps: int, *, sink: EventSink) -> "Detectors":
        """Every detector there is."""
        warmup = warmup_steps(numbers, total_steps)
        return cls([LossSpike(), Plateau(numbers.learning_rate), IdleLearningRate(warmup)], [Overfitting()], sink=sink)

    def step(self, seen: Observation) -> None:
        """The numbers of this step are finite."""
        for detector in self._steps:
            self.report(detector.step(seen))

    def evaluation(self, step: int, loss: float) -> None:
        """The validation loss was measured after this step."""
        if not math.isfinite(loss):
            self.report(Finding("LOSS_NOT_FINITE", f"the validation loss at step {step} is {loss}", step))
            return
        for detector in self._evaluations:
            self.report(detector.evaluation(step, loss))

    def report(self, finding: Finding | None) -> None:
        """As an anomaly; None = nothing to say."""
        if finding is not None:
            self._sink.anomaly(finding.reason, finding.message, finding.step, rows=finding.rows, suggestion=finding.suggestion)
