"""What a warm process does beforehand changes nothing of the run that it becomes."""

import gc
import random

import numpy
import pytest
import torch
from tiny_model import make_tiny_model
from training_in_process import configured, run, weights_sha256

from services.trainer.training.practice import practise

pytestmark = pytest.mark.integration
NUMBERS = {"max_steps": 3, "lora": {"dropout": 0.1}}


@pytest.fixture(autouse=True)
def thaw():
    """What a test froze is collected again."""
    yield
    gc.unfreeze()


def test_a_run_after_practice_is_the_run_it_would_have_been(tmp_path):
    model, found = make_tiny_model(tmp_path / "model"), []
    for name in ("before", "after"):
        config = configured(tmp_path / name, model, **NUMBERS)
        recorder, died = run(config)
        assert not died
        found.append((recorder.values, weights_sha256(config)))
        practise()
    assert found[0] == found[1]
    assert len(found[0][0]) >= 3


def test_practice_draws_from_nobody_s_random_numbers_and_leaves_nothing_behind():
    def drawn():
        return torch.rand(3).tolist(), random.random(), numpy.random.rand()

    def seeded():
        torch.manual_seed(1)
        random.seed(1)
        numpy.random.seed(1)

    seeded()
    expected = drawn()
    seeded()
    threads = torch.get_num_threads()
    practise()
    assert drawn() == expected
    assert (torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()) == (threads, True, torch.float32)


def test_practice_keeps_what_was_imported_from_being_looked_at_again():
    practise()
    assert gc.get_freeze_count() > 100_000


def test_a_model_with_a_gpu_is_not_practised_with(monkeypatch):
    import importlib

    from services.trainer.training import practice

    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    monkeypatch.setattr(practice.tempfile, "TemporaryDirectory", lambda: pytest.fail("it practises"))
    importlib.reload(practice)
