"""What is done about a step that is not finite: fail, leave the batch out, or go back, as the task wants; used by the watch."""

from services.common.errors import ServiceError
from services.trainer.training.config import Hyperparameters
from services.trainer.training.diagnosis.detectors import Detectors
from services.trainer.training.diagnosis.observation import Finding, Observation, named
from services.trainer.training.engine import Engine
from services.trainer.training.events import EventSink
from services.trainer.training.progress import Progress
from services.trainer.training.snapshot import Snapshot


class Remedy:
    """One attempt's. It decides by what all ranks know alike, so that all of them do the same."""

    def __init__(
        self, engine: Engine, numbers: Hyperparameters, *, sink: EventSink, detectors: Detectors, progress: Progress
    ) -> None:
        self._engine = engine
        self._policy = numbers.non_finite_policy
        self._most = numbers.max_skipped_batches
        self._sink = sink
        self._detectors = detectors
        self._progress = progress
        self._good: tuple[int, Snapshot] | None = None
        self.remember()

    def remember(self) -> None:
        """This is the state of a checkpoint, or of the beginning."""
        if self._policy == "rollback":
            self._good = self._progress.done, self._engine.snapshot()

    def treat(self, seen: Observation) -> None:
        """Afterwards the engine is as before the step, or as it was when remembered; raises ServiceError LOSS_NOT_FINITE."""
        self._sink.metrics(seen.step, {"loss": seen.loss, "grad_norm": seen.grad_norm, "learning_rate": seen.learning_rate})
        message = _message(seen)
        if self._policy == "fail" or self._progress.incidents >= self._most:
            self._detectors.report(Finding("LOSS_NOT_FINITE", message, seen.step, seen.rows))
            raise self._failure(message, seen)
        done, state = self._good or (seen.step - 1, self._engine.snapshot())
        self._engine.discard(state)
        self._progress.incidents += 1
        self._progress.skipped += [step for step in range(done + 1, seen.step + 1) if step not in self._progress.skipped]
        consequence = f"weights are those after step {done} again, and the batches since then are left out" if self._good else ""
        text = f"{message}; {consequence or 'its batch is left out'} ({self._progress.incidents} of at most {self._most} times)"
        self._detectors.report(Finding("LOSS_NOT_FINITE", text, seen.step, seen.rows))

    def _failure(self, message: str, seen: Observation) -> ServiceError:
        exhausted = self._progress.incidents
        if exhausted:
            message += f"; it was the {exhausted + 1}. such step, max_skipped_batches is {self._most}"
        numbers = {"step": str(seen.step), "learning_rate": f"{seen.learning_rate:g}", "rows": ", ".join(map(str, seen.rows))}
        return ServiceError("LOSS_NOT_FINITE", message, metadata={name: value for name, value in numbers.items() if value})


def _message(seen: Observation) -> str:
    text = f"at step {seen.step} the loss is {seen.loss:g} and the gradient norm {seen.grad_norm:g} with learning rate "
    saw = f", {named(seen.rows)}" if seen.rows else ""
    return f"{text}{seen.learning_rate:g}{saw}; the step was not applied"
