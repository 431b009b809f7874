"""The training loop; started by `__main__` on every rank with the same arguments but for the engine and the sink."""

import itertools
from collections.abc import Callable, Mapping
from functools import partial

from services.trainer.training.batches import windows
from services.trainer.training.config import Hyperparameters
from services.trainer.training.data import Dataset
from services.trainer.training.diagnosis.watch import Watch
from services.trainer.training.engine import Engine
from services.trainer.training.evaluation import Evaluation
from services.trainer.training.events import EventSink
from services.trainer.training.meter import Meter
from services.trainer.training.progress import Progress, Result
from services.trainer.training.samples import Samples
from services.trainer.training.saver import Saver
from services.trainer.training.schedule import learning_rate, total_steps


def train(
    *,
    engine: Engine,
    training: Dataset,
    validation: Dataset | None,
    samples: Samples | None = None,
    numbers: Hyperparameters,
    sink: EventSink,
    progress: Progress,
    saver: Saver,
    should_stop: Callable[[], bool],
    clock: Callable[[], float],
) -> Result:
    """Every optimizer step that `progress` has not done. `clock` gives seconds. Raises ServiceError LOSS_NOT_FINITE."""
    total = total_steps(numbers, len(training.examples))
    meter = Meter(clock, progress.totals)
    watch = Watch(engine, numbers, total, sink=sink, progress=progress, clock=clock)
    data = training, validation
    evaluation = Evaluation(engine, data, samples, numbers, sink=sink, progress=progress, watch=watch, meter=meter)

    if progress.done:
        watch.continues()
        # A run that was asked to stop leaves its validation to the one that continues it.
        if evaluation.run_if_due():
            saver.save(engine, progress)
            watch.remember()
    for window in itertools.islice(windows(training.lengths, numbers), progress.done, None):
        if progress.ended:
            break
        progress.step = window.step
        rate = learning_rate(window.step, numbers, total)
        examples = training.take(window.examples)
        units = engine.units(examples)
        if not watch.can_learn_from(window.step, examples, units):
            progress.done = window.step
            continue
        micro_batches = [training.take(micro_batch) for micro_batch in window.micro_batches[engine.rank]]
        wishes = partial(_wishes, should_stop, saver, watch, window.step)
        measured = engine.gradient(micro_batches, units, wishes)
        accepted = watch.accepts(measured, window.step, rate, examples)
        if accepted:
            engine.apply(rate)
            meter.add(measured.sums, *training.count(window.examples))
        progress.done = window.step

        # A stop changes nothing about what is reported: the run that continues reports the rest.
        if accepted and (window.step == total or window.step % numbers.logging_steps == 0):
            values = meter.read() | {"learning_rate": rate, "grad_norm": measured.grad_norm, "epoch": window.epoch}
            sink.metrics(window.step, values, meter.remaining(total - window.step, evaluation.left(), evaluation.in_steps))
            progress.metrics |= values
        is_best = not measured.stop and evaluation.run_if_due()
        if measured.finish and not measured.stop:
            watch.time_is_up(window.step)
        if measured.stop or measured.save or is_best or progress.ended:
            with meter.paused("saving"):
                saver.save(engine, progress)
            watch.remember()
        if measured.stop:
            return Result(window.step, progress.metrics, stopped=True)
    return Result(progress.done, progress.metrics, stopped=False, ended=progress.ended)


def _wishes(should_stop: Callable[[], bool], saver: Saver, watch: Watch, step: int) -> Mapping[str, bool]:
    return {"stop": should_stop(), "save": saver.is_due(step), "finish": watch.is_out_of_time()}
