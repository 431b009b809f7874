"""When the model is looked at between steps, and how often that is still to come."""

import contextlib

import pytest
from training_configs import numbers
from training_examples import example

from services.trainer.training.data import Dataset
from services.trainer.training.evaluation import Evaluation
from services.trainer.training.progress import Progress


class Meter:
    def __init__(self):
        self.pauses = []

    @contextlib.contextmanager
    def paused(self, kind):
        self.pauses.append(kind)
        yield


class Samples:
    def generate(self, engine):
        yield "answer"


class Sink:
    def __init__(self):
        self.samples = []

    def sample(self, step, answer):
        self.samples.append((step, answer))


def data(count, length=4):
    return Dataset(tuple(example(range(length), (1,)) for _ in range(count)))


def evaluation(progress, *, validation=None, samples=None, **changes):
    meter, sink = Meter(), Sink()
    made = Evaluation(
        None, (data(20), validation), samples, numbers(**changes), sink=sink, progress=progress, watch=None, meter=meter
    )
    return made, meter, sink


@pytest.mark.parametrize(
    ("changes", "due"),
    [
        ({"max_steps": 7, "eval_steps": 3}, [3, 6, 7]),
        ({"max_steps": 6, "eval_steps": 3}, [3, 6]),
        ({"num_train_epochs": 2.0}, [3, 6]),
    ],
    ids=["partial", "whole", "epochs"],
)
def test_it_is_due_at_its_cadence_and_at_the_end_and_counts_down(changes, due):
    progress = Progress()
    looks, meter, sink = evaluation(progress, samples=Samples(), **changes)
    left = []
    for step in range(1, due[-1] + 1):
        progress.done = step
        left.append(looks.left())
        looks.run_if_due()
        assert looks.left() == sum(later > step for later in due)
    assert left == [sum(later >= step for later in due) for step in range(1, due[-1] + 1)]
    assert sink.samples == [(step, "answer") for step in due]
    assert meter.pauses == ["evaluation"] * len(due)


def test_what_was_looked_at_is_not_looked_at_again():
    progress = Progress(done=3, evaluated=3)
    looks, meter, _ = evaluation(progress, samples=Samples(), max_steps=7, eval_steps=3)
    assert looks.run_if_due() is False
    assert meter.pauses == []
    assert looks.left() == 2


def test_without_anything_to_look_with_nothing_is_due():
    looks, _, _ = evaluation(Progress(done=3), max_steps=3, eval_steps=1)
    assert (looks.is_due(), looks.left(), looks.run_if_due()) == (False, 0, False)


def test_a_validation_counts_as_many_steps_as_its_tokens_say():
    looks, _, _ = evaluation(Progress(), validation=data(16, 8), global_batch_size=8)
    assert looks.in_steps == pytest.approx(0.4 * 16 * 8 / (8 * 4))
    assert evaluation(Progress(), samples=Samples())[0].in_steps == 0.0
