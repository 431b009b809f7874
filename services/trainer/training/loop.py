"""The training loop; started by `__main__` on every rank with the same arguments but for the engine and the sink."""

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
from services.trainer.training.schedule import learning_rate, steps_per_epoch, total_steps


def train(
    *,
    engine: Engine,
    training: Dataset,
    validation: Dataset | None,
    numbers: Hyperparameters,
    sink: EventSink,
    progress: Progress,
    should_stop: Callable[[], bool],
    clock: Callable[[], float],
) -> Result:
    """Every optimizer step of the run. `clock` gives seconds. Raises ServiceError LOSS_NOT_FINITE."""
    total = total_steps(numbers, len(training.examples))
    eval_steps = numbers.eval_steps or steps_per_epoch(len(training.examples), numbers.global_batch_size)
    meter = Meter(clock)
    metrics: dict[str, float] = {}
    for window in windows(training.lengths, numbers):
        progress.step = window.step
        rate = learning_rate(window.step, numbers, total)
        tokens, targets = training.count(window.examples)
        share = [training.take(micro_batch) for micro_batch in window.micro_batches[engine.rank]]

        units = engine.units(training.take(window.examples))
        sums = engine.accumulate(share, units)
        measured = engine.measure(sums, units, should_stop())
        if not measured.is_finite:
            raise _not_finite(measured, window.step, rate, sink)
        engine.apply(rate)

        meter.add(measured.sums, tokens, targets)
        ends = measured.stop or window.step == total
        if ends or window.step % numbers.logging_steps == 0:
            values = meter.read() | {"learning_rate": rate, "grad_norm": measured.grad_norm, "epoch": window.epoch}
            sink.metrics(window.step, values)
            metrics |= values
        if measured.stop:
            return Result(window.step, metrics, stopped=True)
        if validation and (ends or window.step % eval_steps == 0):
            values = engine.evaluate(validation, numbers).means("eval_")
            sink.metrics(window.step, values)
            _warn_unless_finite(values["eval_loss"], window.step, sink)
            metrics |= values
            meter.restart_clock()
    return Result(total, metrics, stopped=False)


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
