"""Looks over the loop's shoulder at every step and validation and at the clock; the loop knows no diagnosis by name."""

from collections.abc import Callable, Sequence

from services.trainer.training.config import Hyperparameters
from services.trainer.training.data import Example
from services.trainer.training.diagnosis.data_starvation import DataStarvation
from services.trainer.training.diagnosis.detectors import Detectors
from services.trainer.training.diagnosis.early_end import EarlyEnd
from services.trainer.training.diagnosis.idle_learning_rate import MEASURE_EVERY
from services.trainer.training.diagnosis.movement import Movement
from services.trainer.training.diagnosis.observation import Observation, rows_of
from services.trainer.training.diagnosis.remedy import Remedy
from services.trainer.training.diagnosis.without_targets import without_targets
from services.trainer.training.engine import Engine, Measurement
from services.trainer.training.events import EventSink
from services.trainer.training.progress import Progress


class Watch:
    """One attempt's, begun before its first step. All ranks decide alike, since they are shown the same numbers; one tells."""

    def __init__(
        self,
        engine: Engine,
        numbers: Hyperparameters,
        total_steps: int,
        *,
        sink: EventSink,
        progress: Progress,
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._sink = sink
        self._total = total_steps
        self._detectors = Detectors.over(numbers, total_steps, sink=sink)
        self._remedy = Remedy(engine, numbers, sink=sink, detectors=self._detectors, progress=progress)
        self._early_end = EarlyEnd(numbers, progress, clock)
        self._starvation, self._clock = DataStarvation(), clock
        self._last = (clock(), engine.data_seconds)
        self._movement = Movement(engine.sample_of_weights())
        self.is_out_of_time = self._early_end.is_out_of_time

    def continues(self) -> None:
        """From a checkpoint: whether it had ended is judged anew, since its task may have other numbers now, and told again."""
        self._detectors.report(self._early_end.again(self._total))

    def can_learn_from(self, step: int, examples: Sequence[Example], units: Sequence[int]) -> bool:
        """Whether anything in the batch carries loss; else the step is to be passed over."""
        finding = without_targets(step, examples, units)
        self._detectors.report(finding)
        return finding is None

    def accepts(self, measured: Measurement, step: int, rate: float, examples: Sequence[Example]) -> bool:
        """Whether the step is to be applied; when not, the engine has forgotten it. Raises ServiceError LOSS_NOT_FINITE."""
        self._sink.beat(step)
        moved = self._movement.since(self._engine.sample_of_weights()) if step % MEASURE_EVERY == 0 else None
        seen = Observation(step, measured.sums.loss, measured.grad_norm, rate, rows_of(examples), moved)
        self._look_at_data(step)
        if measured.is_finite:
            self._detectors.step(seen)
        else:
            self._remedy.treat(seen)
        return measured.is_finite

    def _look_at_data(self, step: int) -> None:
        now, waited = self._clock(), self._engine.data_seconds
        since, waited_before = self._last
        self._last = now, waited
        self._detectors.report(self._starvation.step(step, waited - waited_before, now - since))

    def evaluation(self, step: int, loss: float) -> None:
        """The validation loss after this step, before it may become the best so far. May end the run."""
        self._detectors.evaluation(step, loss)
        if step < self._total:
            self._detectors.report(self._early_end.evaluated(step, loss))

    def time_is_up(self, step: int) -> None:
        """The ranks agree on it. Ends the run, unless this was its last step anyway."""
        if step < self._total:
            self._detectors.report(self._early_end.out_of_time(step, self._total))

    def remember(self) -> None:
        """This is the state of a checkpoint."""
        self._remedy.remember()
