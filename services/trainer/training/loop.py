"""The training loop; started by `__main__` on every rank with the same arguments but for the engine and the sink."""

import math
from collections.abc import Callable

from services.common.errors import ServiceError
from services.trainer.training.batches import evaluation_share, windows
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

        loss_sum = engine.accumulate(share, targets)
        measured = engine.measure(loss_sum, should_stop())
        if not measured.is_finite:
            raise _not_finite(measured, targets, window.step, rate, sink)
        engine.apply(rate)

        meter.add(measured.loss_sum, tokens, targets)
        ends = measured.stop or window.step == total
        if ends or window.step % numbers.logging_steps == 0:
            values = meter.read() | {"learning_rate": rate, "grad_norm": measured.grad_norm, "epoch": window.epoch}
            sink.metrics(window.step, values)
            metrics |= values
        if measured.stop:
            return Result(window.step, metrics, stopped=True)
        if validation and (ends or window.step % eval_steps == 0):
            values = {"eval_loss": evaluate(engine, validation, numbers)}
            sink.metrics(window.step, values)
            _warn_unless_finite(values["eval_loss"], window.step, sink)
            metrics |= values
            meter.restart_clock()
    return Result(total, metrics, stopped=False)


def evaluate(engine: Engine, data: Dataset, numbers: Hyperparameters) -> float:
    """Mean loss over the target tokens of `data`, all ranks together."""
    share = evaluation_share(data.lengths, numbers)[engine.rank]
    return engine.loss_sum(data.take(micro_batch) for micro_batch in share) / data.target_token_count


def _not_finite(measured: Measurement, targets: int, step: int, rate: float, sink: EventSink) -> ServiceError:
    message = (
        f"at step {step} the loss is {measured.loss_sum / targets:g} and the gradient norm {measured.grad_norm:g} with learning "
        f"rate {rate:g}; the step was not applied"
    )
    sink.metrics(step, {"loss": measured.loss_sum / targets, "grad_norm": measured.grad_norm, "learning_rate": rate})
    sink.anomaly("LOSS_NOT_FINITE", message, step)
    return ServiceError("LOSS_NOT_FINITE", message, metadata={"step": str(step), "learning_rate": f"{rate:g}"})


def _warn_unless_finite(loss: float, step: int, sink: EventSink) -> None:
    if not math.isfinite(loss):
        sink.anomaly("LOSS_NOT_FINITE", f"the validation loss at step {step} is {loss}", step)
