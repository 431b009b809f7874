"""The loop with a fake engine: when it reports, measures, stops and refuses."""

import copy
import math

import pytest
import torch
from training_configs import numbers
from training_examples import example

from services.common.errors import ServiceError
from services.trainer.training.data import Dataset
from services.trainer.training.engine import Measurement
from services.trainer.training.loop import train
from services.trainer.training.progress import Progress
from services.trainer.training.sums import Sums

SPEED = ("tokens", "target_tokens", "tokens_per_second")


class FakeEngine:
    """Every token's loss is 2 nats; the gradient norm is 0.5."""

    rank = 0
    data_seconds = 0.0

    def __init__(self, broken_step=None, broken=(math.nan, 0.5)):
        self.rates, self.windows, self.discarded = [], [], []
        self._broken_step, self._broken = broken_step, broken

    def units(self, examples):
        return (sum(each.target_count for each in examples),)

    def accumulate(self, micro_batches, units):
        self.windows.append([len(examples) for examples in micro_batches])
        return torch.tensor([2.0 * units[0], units[0]])

    def measure(self, sums, units, *, stop, save, finish=False):
        loss, right = sums.tolist()
        loss, norm = self._broken if len(self.windows) == self._broken_step else (loss, 0.5)
        return Measurement(Sums((loss,), (right,), units, ("token_accuracy",)), norm, stop, save, finish)

    def gradient(self, micro_batches, units, wishes):
        return self.measure(self.accumulate(micro_batches, units), units, **wishes())

    def sample_of_weights(self):
        return torch.full((4,), float(len(self.rates)))

    def snapshot(self):
        return len(self.rates)

    def discard(self, state):
        self.discarded.append(state)

    def apply(self, learning_rate):
        self.rates.append(learning_rate)

    def evaluate(self, data, numbers):
        (units,) = self.units(data.examples)
        return Sums((3.0 * units,), (units / 2,), (units,), ("token_accuracy",))


class FakeSaver:
    """Keeps the progress at every save; `due` are steps."""

    def __init__(self, due=()):
        self.saved = []
        self._due = due

    def is_due(self, step):
        return step in self._due

    def save(self, engine, progress):
        self.saved.append(copy.deepcopy(progress))

    @property
    def steps(self):
        return [progress.done for progress in self.saved]


class ListSink:
    def __init__(self):
        self.records = []

        self.remaining, self.samples = [], []

    def metrics(self, step, values, remaining=None):
        self.records.append((step, dict(values)))
        self.remaining.append(remaining)

    def anomaly(self, reason, message, step, *, rows=(), suggestion=""):
        self.records.append((step, reason))

    def sample(self, step, answer):
        self.samples.append((step, answer))

    def beat(self, step, phase=""):
        pass

    def steps(self, name):
        return [step for step, values in self.records if name in values]


def dataset(count):
    return Dataset(tuple(example(range(4 + index % 3), (2, 3)) for index in range(count)))


class FakeSamples:
    """Says the number of the step."""

    def generate(self, engine):
        yield f"after {len(engine.rates)}"


def run(engine=None, *, examples=20, validation=None, samples=None, stop=lambda: False, saver=None, progress=None, **changes):
    engine, sink, progress = engine or FakeEngine(), ListSink(), progress or Progress()
    ticks = iter(range(10_000))
    result = train(
        engine=engine,
        training=dataset(examples),
        validation=validation,
        samples=samples,
        numbers=numbers(**changes),
        sink=sink,
        progress=progress,
        saver=saver or FakeSaver(),
        should_stop=stop,
        clock=lambda: float(next(ticks)),
    )
    return result, sink, engine, progress


def test_every_step_has_its_metrics():
    result, sink, _, progress = run(num_train_epochs=2.0, lr_scheduler_type="constant")
    assert sink.steps("loss") == [1, 2, 3, 4, 5, 6]
    step, values = sink.records[0]
    assert step == 1
    assert set(values) == {*SPEED, "loss", "learning_rate", "grad_norm", "epoch", "token_accuracy"}
    assert (values["loss"], values["grad_norm"], values["learning_rate"]) == (2.0, 0.5, 0.01)
    assert result.step == progress.step == 6
    assert result.metrics == sink.records[-1][1]
    assert result.metrics["epoch"] == 2.0
    assert result.metrics["target_tokens"] == 80
    assert not result.stopped


def test_the_partial_batch_of_an_epoch_is_used():
    _, _, engine, _ = run()
    assert engine.windows == [[4, 4], [4, 4], [4, 0]]


def test_learning_rates_follow_the_schedule():
    _, _, engine, _ = run(max_steps=4, lr_scheduler_type="linear")
    assert engine.rates == pytest.approx([0.01, 0.0075, 0.005, 0.0025])


def test_metrics_come_every_logging_steps_and_at_the_end():
    _, sink, _, _ = run(max_steps=7, logging_steps=3)
    assert sink.steps("loss") == [3, 6, 7]


def test_validation_is_measured_once_per_epoch_unless_told():
    _, sink, _, _ = run(validation=dataset(5), num_train_epochs=2.5)
    assert sink.steps("eval_loss") == [3, 6, 8]
    _, sink, _, _ = run(validation=dataset(5), max_steps=5, eval_steps=2)
    assert sink.steps("eval_loss") == [2, 4, 5]


def test_eval_loss_is_the_mean_over_the_validations_target_tokens():
    result, _, _, _ = run(validation=dataset(5))
    assert result.metrics["eval_loss"] == 3.0


def test_what_the_objective_measures_is_reported_for_training_and_validation():
    result, _, _, _ = run(validation=dataset(5))
    assert (result.metrics["token_accuracy"], result.metrics["eval_token_accuracy"]) == (1.0, 0.5)


def test_without_validation_data_there_is_no_eval_loss():
    result, sink, _, _ = run(eval_steps=1)
    assert sink.steps("eval_loss") == []
    assert "eval_loss" not in result.metrics


@pytest.mark.parametrize("broken", [(math.nan, 0.5), (math.inf, 0.5), (8.0, math.nan), (8.0, math.inf)])
def test_a_step_that_is_not_finite_is_reported_and_never_applied(broken):
    engine = FakeEngine(broken_step=2, broken=broken)
    with pytest.raises(ServiceError) as caught:
        run(engine)
    assert caught.value.reason == "LOSS_NOT_FINITE"
    assert "at step 2" in caught.value.message
    assert "learning_rate" in caught.value.hint
    assert len(engine.rates) == 1


def test_the_numbers_and_an_anomaly_come_before_the_failure():
    sink, progress = ListSink(), Progress()
    with pytest.raises(ServiceError):
        train(
            engine=FakeEngine(broken_step=1),
            training=dataset(4),
            validation=None,
            numbers=numbers(),
            sink=sink,
            progress=progress,
            saver=FakeSaver(),
            should_stop=lambda: False,
            clock=lambda: 0.0,
        )
    (step, values), anomaly = sink.records
    assert step == 1
    assert math.isnan(values["loss"])
    assert values["grad_norm"] == 0.5
    assert anomaly == (1, "LOSS_NOT_FINITE")
    assert progress.step == 1


def stop_after(count):
    asked = iter(range(1, 10_000))
    return lambda: next(asked) == count


def test_a_stop_ends_after_the_current_step_with_a_checkpoint_and_reports_nothing_out_of_turn():
    saver = FakeSaver()
    result, sink, engine, _ = run(stop=stop_after(2), max_steps=10, logging_steps=5, validation=dataset(3), saver=saver)
    assert result.stopped
    assert (result.step, len(engine.rates), saver.steps) == (2, 2, [2])
    assert sink.records == []


def test_what_continues_from_a_checkpoint_reports_the_rest_as_if_nothing_had_happened():
    _, whole, whole_engine, _ = run(max_steps=10, logging_steps=4, eval_steps=3, validation=dataset(3))
    for stop in range(1, 11):
        saver, numbers = FakeSaver(), {"max_steps": 10, "logging_steps": 4, "eval_steps": 3, "validation": dataset(3)}
        first, before, first_engine, _ = run(stop=stop_after(stop), saver=saver, **numbers)
        assert first.stopped
        second, after, second_engine, _ = run(progress=saver.saved[-1], **numbers)
        assert not second.stopped
        assert timeless(before.records + after.records) == timeless(whole.records), stop
        assert first_engine.rates + second_engine.rates == whole_engine.rates
        assert first_engine.windows + second_engine.windows == whole_engine.windows


def timeless(records):
    return [(step, {name: value for name, value in values.items() if name != "tokens_per_second"}) for step, values in records]


def test_what_was_finished_has_nothing_left_to_do():
    saver = FakeSaver({10})
    run(max_steps=10, saver=saver)
    result, sink, engine, _ = run(max_steps=10, progress=saver.saved[-1])
    assert (result.step, result.stopped, engine.rates, sink.records) == (10, False, [], [])
    assert result.metrics["loss"] == 2.0


def test_checkpoints_are_saved_when_due_and_when_the_validation_loss_is_the_best_so_far():
    losses = iter([3.0, 4.0, math.nan, 2.0, 2.0])
    engine, saver = FakeEngine(), FakeSaver({5})
    engine.evaluate = lambda data, numbers: Sums((next(losses),), (), (1,))
    _, _, _, progress = run(engine, saver=saver, max_steps=10, eval_steps=2, validation=dataset(5 // 2 + 1))
    assert saver.steps == [2, 5, 8]
    assert progress.best_eval_loss == min(saved.best_eval_loss for saved in saver.saved)


def test_a_validation_loss_that_is_not_finite_is_never_the_best():
    engine, saver = FakeEngine(), FakeSaver()
    engine.evaluate = lambda data, numbers: Sums((math.nan,), (), (1,))
    _, sink, _, progress = run(engine, saver=saver, max_steps=2, eval_steps=1, validation=dataset(3))
    assert (saver.steps, progress.best_eval_loss) == ([], None)
    assert (1, "LOSS_NOT_FINITE") in sink.records


def test_a_step_that_is_not_finite_is_never_part_of_a_checkpoint():
    saver = FakeSaver({2})
    with pytest.raises(ServiceError):
        run(FakeEngine(broken_step=2), saver=saver)
    assert saver.steps == []


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_a_step_that_is_not_finite_is_left_out_when_the_task_wants_it(policy):
    engine, saver = FakeEngine(broken_step=4), FakeSaver({2})
    result, sink, _, progress = run(engine, saver=saver, max_steps=6, non_finite_policy=policy)
    assert (result.step, len(engine.rates)) == (6, 5)
    assert engine.discarded == [3 if policy == "skip" else 2], "the state it goes on from has made so many steps"
    assert progress.skipped == ([4] if policy == "skip" else [3, 4])
    assert progress.incidents == 1
    assert (4, "LOSS_NOT_FINITE") in sink.records
    assert [step for step in sink.steps("loss") if step != 4] == [1, 2, 3, 5, 6]


def test_without_a_checkpoint_going_back_leads_to_the_beginning():
    engine = FakeEngine(broken_step=3)
    _, _, _, progress = run(engine, max_steps=5, non_finite_policy="rollback")
    assert (engine.discarded, progress.skipped) == ([0], [1, 2, 3])


def test_a_run_that_continues_remembers_how_often_it_may_still_go_on():
    engine, progress = FakeEngine(broken_step=1), Progress(incidents=3)
    with pytest.raises(ServiceError, match=r"it was the 4\. such step, max_skipped_batches is 3"):
        run(engine, progress=progress, non_finite_policy="skip")


def test_a_last_step_that_is_left_out_leaves_nothing_to_report():
    result, sink, _, _ = run(FakeEngine(broken_step=3), max_steps=3, non_finite_policy="skip", logging_steps=3)
    assert result.step == 3
    assert [step for step, values in sink.records if "epoch" in values] == []


def test_a_batch_without_targets_is_passed_over():
    engine = FakeEngine()
    engine.units = lambda examples: (0,)
    result, sink, _, _ = run(engine, max_steps=2)
    assert (result.step, engine.windows, engine.rates) == (2, [], [])
    assert sink.records == [(1, "BATCH_WITHOUT_TARGETS"), (2, "BATCH_WITHOUT_TARGETS")]


def test_samples_come_with_every_evaluation_also_without_validation_data():
    _, sink, _, _ = run(samples=FakeSamples(), max_steps=5, eval_steps=2)
    assert sink.samples == [(2, "after 2"), (4, "after 4"), (5, "after 5")]


def test_patience_ends_the_run_with_a_checkpoint_and_what_continues_goes_no_further():
    losses, saver = iter([3.0, 2.0, 2.0, 2.5, 2.6]), FakeSaver()
    engine = FakeEngine()
    engine.evaluate = lambda data, numbers: Sums((next(losses),), (), (1,))
    changes = {"max_steps": 10, "eval_steps": 1, "early_stopping_patience": 2, "validation": dataset(3)}
    result, sink, _, progress = run(engine, saver=saver, **changes)
    assert (result.step, result.ended, result.stopped) == (4, "EARLY_STOPPED", False)
    assert (4, "EARLY_STOPPED") in sink.records
    assert saver.steps[-1] == 4
    assert (progress.best_step, progress.best_eval_loss) == (2, 2.0)
    again, later, engine, _ = run(progress=copy.deepcopy(saver.saved[-1]), **changes)
    assert (again.step, again.ended, engine.rates) == (4, "EARLY_STOPPED", [])
    assert later.records == [(4, "EARLY_STOPPED")], "whoever reads this attempt alone learns why it ends"
    more, _, engine, _ = run(progress=saver.saved[-1], **changes | {"early_stopping_patience": 9, "max_steps": 6})
    assert (more.step, more.ended, len(engine.rates)) == (6, "", 2)


def test_an_evaluation_after_a_resume_that_is_the_best_so_far_is_saved():
    losses, before, after = iter([3.0, 2.0, 2.5]), FakeSaver(), FakeSaver()
    engine = FakeEngine()
    engine.evaluate = lambda data, numbers: Sums((next(losses),), (), (1,))
    changes = {"max_steps": 3, "eval_steps": 1, "validation": dataset(3)}
    run(engine, saver=before, stop=stop_after(2), **changes)
    assert (before.steps, before.saved[-1].evaluated) == ([1, 2], 1)
    _, _, _, progress = run(engine, saver=after, progress=before.saved[-1], **changes)
    assert (after.steps, after.saved[0].evaluated, progress.best_step) == ([2], 2, 2)


def test_an_evaluation_after_a_resume_that_is_no_better_is_not_saved():
    losses, before, after = iter([3.0, 4.0, 4.5]), FakeSaver(), FakeSaver()
    engine = FakeEngine()
    engine.evaluate = lambda data, numbers: Sums((next(losses),), (), (1,))
    changes = {"max_steps": 3, "eval_steps": 1, "validation": dataset(3)}
    run(engine, saver=before, stop=stop_after(2), **changes)
    run(engine, saver=after, progress=before.saved[-1], **changes)
    assert after.steps == []


def test_patience_at_the_last_step_is_no_early_end():
    engine, losses = FakeEngine(), iter([2.0, 3.0])
    engine.evaluate = lambda data, numbers: Sums((next(losses),), (), (1,))
    result, _, _, _ = run(engine, max_steps=2, eval_steps=1, early_stopping_patience=1, validation=dataset(3))
    assert result.ended == ""


def test_a_time_limit_finishes_the_step_and_saves():
    saver = FakeSaver()
    result, sink, engine, _ = run(saver=saver, max_steps=50, time_limit_seconds=30.0)
    assert result.ended == "TIME_LIMIT_REACHED"
    assert 1 <= result.step == len(engine.rates) < 50
    assert saver.steps == [result.step]
    assert sink.records[-1] == (result.step, "TIME_LIMIT_REACHED")
    again, later, engine, _ = run(progress=copy.deepcopy(saver.saved[-1]), max_steps=50, time_limit_seconds=30.0)
    assert (again.ended, engine.rates, later.records) == ("TIME_LIMIT_REACHED", [], [(result.step, "TIME_LIMIT_REACHED")])
    for changes in ({}, {"time_limit_seconds": 1e9}):
        more, _, engine, _ = run(progress=copy.deepcopy(saver.saved[-1]), max_steps=50, **changes)
        assert (more.ended, len(engine.rates)) == ("", 50 - result.step)


def test_a_run_that_ended_early_and_has_fewer_steps_now_is_simply_done():
    progress = Progress(step=7, done=7, ended="TIME_LIMIT_REACHED", seconds=90.0)
    result, sink, engine, _ = run(progress=progress, max_steps=7, time_limit_seconds=30.0)
    assert (result.step, result.ended, engine.rates, sink.records) == (7, "", [], [])


def test_the_time_that_remains_is_told_from_the_second_step_on_and_is_nothing_at_the_end():
    _, sink, _, _ = run(max_steps=6, validation=dataset(4), eval_steps=3)
    told = [remaining for remaining, (_, values) in zip(sink.remaining, sink.records, strict=True) if "loss" in values]
    assert told[0] is None
    assert told == [None, *sorted(told[1:], reverse=True)]
    assert told[-1] > 0, "the last validation is still to come"


def test_a_learning_rate_without_effect_is_told():
    engine = FakeEngine()
    engine.sample_of_weights = lambda: torch.ones(4)
    _, sink, _, _ = run(engine, max_steps=60)
    assert [step for step, values in sink.records if values == "LEARNING_RATE_WITHOUT_EFFECT"] == [40]


def test_a_run_that_waits_for_its_data_is_told_once():
    engine = FakeEngine()
    accumulate, ticks = engine.accumulate, iter(range(10_000))

    def slow(micro_batches, units):
        engine.data_seconds += 3.0  # of the few seconds that a step takes on the test's clock
        next(ticks)
        return accumulate(micro_batches, units)

    engine.accumulate = slow
    _, sink, _, _ = run(engine, max_steps=60)
    assert [step for step, values in sink.records if values == "DATA_STARVATION"] == [25]
    _, sink, _, _ = run(FakeEngine(), max_steps=60)
    assert "DATA_STARVATION" not in [values for _, values in sink.records]
