"""The training loop; started by `__main__` on every rank with the same arguments but for the engine and the sink."""

import itertools
import math
from collections.abc import Callable

from services.common.errors import ServiceError
from services.trainer.training.batches import windows
from services.trainer.training.config import Hyperparameters
from services.trainer.training.data import Dataset
from services.trainer.training.engine import Engine, Measurement
from services.trainer.training.events import EventSink
from services.trainer.training.meter import Meter
from services.trainer.training.progress import Progress, Result
from services.trainer.training.saver import Saver
from services.trainer.training.schedule import learning_rate, steps_per_epoch, total_steps


def train(
    *,
    engine: Engine,
    training: Dataset,
    validation: Dataset | None,
    numbers: Hyperparameters,
    sink: EventSink,
    progress: Progress,
    saver: Saver,
    should_stop: Callable[[], bool],
    clock: Callable[[], float],
) -> Result:
    """Every optimizer step that `progress` has not done. `clock` gives seconds. Raises ServiceError LOSS_NOT_FINITE."""
    total = total_steps(numbers, len(training.examples))
    eval_steps = numbers.eval_steps or steps_per_epoch(len(training.examples), numbers.global_batch_size)
    meter = Meter(clock, progress.totals)

    def validate() -> bool:
        """Measures the validation loss if this is the moment; returns whether it is the best so far."""
        due = progress.done == total or progress.done % eval_steps == 0
        if validation is None or not due or progress.evaluated == progress.done:
            return False
        with meter.paused():
            return _validate(engine, validation, numbers, sink, progress)

    if progress.done:
        # A run that was asked to stop leaves its validation to the one that continues it.
        validate()
    for window in itertools.islice(windows(training.lengths, numbers), progress.done, None):
        progress.step = window.step
        rate = learning_rate(window.step, numbers, total)
        tokens, targets = training.count(window.examples)
        share = [training.take(micro_batch) for micro_batch in window.micro_batches[engine.rank]]

        units = engine.units(training.take(window.examples))
        sums = engine.accumulate(share, units)
        measured = engine.measure(sums, units, stop=should_stop(), save=saver.is_due(window.step))
        if not measured.is_finite:
            raise _not_finite(measured, window.step, rate, sink)
        engine.apply(rate)
        progress.done = window.step

        meter.add(measured.sums, tokens, targets)
        # A stop changes nothing about what is reported: the run that continues reports the rest.
        if window.step == total or window.step % numbers.logging_steps == 0:
            values = meter.read() | {"learning_rate": rate, "grad_norm": measured.grad_norm, "epoch": window.epoch}
            sink.metrics(window.step, values)
            progress.metrics |= values
        is_best = not measured.stop and validate()
        if measured.stop or measured.save or is_best:
            with meter.paused():
                saver.save(engine, progress)
        if measured.stop:
            return Result(window.step, progress.metrics, stopped=True)
    return Result(total, progress.metrics, stopped=False)


def _validate(engine: Engine, data: Dataset, numbers: Hyperparameters, sink: EventSink, progress: Progress) -> bool:
    values = engine.evaluate(data, numbers).means("eval_")
    sink.metrics(progress.done, values)
    loss = values["eval_loss"]
    _warn_unless_finite(loss, progress.done, sink)
    progress.metrics |= values
    progress.evaluated = progress.done
    is_best = math.isfinite(loss) and (progress.best_eval_loss is None or loss < progress.best_eval_loss)
    if is_best:
        progress.best_eval_loss = loss
    return is_best


def _not_finite(measured: Measurement, step: int, rate: float, sink: EventSink) -> ServiceError:
    message = (
        f"at step {step} the loss is {measured.sums.loss:g} and the gradient norm {measured.grad_norm:g} with learning "
        f"rate {rate:g}; the step was not applied"
    )
    sink.metrics(step, {"loss": measured.sums.loss, "grad_norm": measured.grad_norm, "learning_rate": rate})
    sink.anomaly("LOSS_NOT_FINITE", message, step)
    return ServiceError("LOSS_NOT_FINITE", message, metadata={"step": str(step), "learning_rate": f"{rate:g}"})


def _warn_unless_finite(loss: float, step: int, sink: EventSink) -> None:
    if not math.isfinite(loss):
        sink.anomaly("LOSS_NOT_FINITE", f"the validation loss at step {step} is {loss}", step)
