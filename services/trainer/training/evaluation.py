"""Looks at the model between two steps: validation loss and metrics, and answers to the task's prompts; used by the loop."""

import math

from services.trainer.training.config import Hyperparameters
from services.trainer.training.data import Dataset
from services.trainer.training.diagnosis.watch import Watch
from services.trainer.training.engine import Engine
from services.trainer.training.events import EventSink
from services.trainer.training.meter import Meter
from services.trainer.training.progress import Progress
from services.trainer.training.samples import Samples
from services.trainer.training.schedule import steps_per_epoch, total_steps


class Evaluation:
    """One attempt's; without validation data and without prompts it does nothing."""

    def __init__(
        self,
        engine: Engine,
        data: tuple[Dataset, Dataset | None],
        samples: Samples | None,
        numbers: Hyperparameters,
        *,
        sink: EventSink,
        progress: Progress,
        watch: Watch,
        meter: Meter,
    ) -> None:
        """`data`: what is trained on, and what is measured with."""
        training, validation = data
        self._engine = engine
        self._validation = validation
        self._samples = samples
        self._numbers = numbers
        self._every = numbers.eval_steps or steps_per_epoch(len(training.examples), numbers.global_batch_size)
        self._total = total_steps(numbers, len(training.examples))
        # A forward pass is about 0.4 of a step with an adapter; known better once it was measured.
        held_out = validation.token_count if validation else 0
        self.in_steps = 0.4 * held_out * len(training.examples) / (training.token_count * numbers.global_batch_size)
        self._sink = sink
        self._progress = progress
        self._watch = watch
        self._meter = meter

    def left(self) -> int:
        """How many are still to come, one that is due now among them."""
        if self._validation is None and self._samples is None:
            return 0
        done, all_of_them = self._progress.done, -(-self._total // self._every)
        passed = all_of_them if done == self._total else done // self._every
        return all_of_them - passed + self.is_due()

    def is_due(self) -> bool:
        """Whether this is the moment."""
        done = self._progress.done
        is_moment = done == self._total or done % self._every == 0
        return is_moment and self._progress.evaluated != done and not (self._validation is None and self._samples is None)

    def run_if_due(self) -> bool:
        """Returns whether the validation loss was measured and is the best so far."""
        if not self.is_due():
            return False
        with self._meter.paused("evaluation"):
            return self._run()

    def _run(self) -> bool:
        is_best = self._validation is not None and self._measure(self._validation)
        if self._samples is not None:
            for answer in self._samples.generate(self._engine):
                self._sink.sample(self._progress.done, answer)
        self._progress.evaluated = self._progress.done
        return is_best

    def _measure(self, data: Dataset) -> bool:
        progress = self._progress
        values = self._engine.evaluate(data, self._numbers).means("eval_")
        self._sink.metrics(progress.done, values)
        loss = values["eval_loss"]
        self._watch.evaluation(progress.done, loss)
        progress.metrics |= values
        is_best = math.isfinite(loss) and (progress.best_eval_loss is None or loss < progress.best_eval_loss)
        if is_best:
            progress.best_eval_loss, progress.best_step = loss, progress.done
        return is_best
