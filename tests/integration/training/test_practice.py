"""What a warm process does beforehand changes nothing of the run that it becomes."""

import gc
import json
import os
import random
import shutil
import subprocess
import sys
from unittest import mock

import numpy
import pytest
import torch
from tiny_model import make_tiny_model
from training_in_process import configured, run, weights_sha256

from services.trainer.training import kept_base
from services.trainer.training import model as model_module
from services.trainer.training.practice import practise

pytestmark = pytest.mark.integration
NUMBERS = {"max_steps": 3, "lora": {"dropout": 0.1}}


@pytest.fixture(autouse=True)
def thaw():
    """What a test froze is collected again, what it kept is gone."""
    yield
    gc.unfreeze()
    kept_base.take_model("", None)


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


LABELLED = [{"messages": [{"role": "user", "content": f"row {index}"}], "label": "ab"[index % 2]} for index in range(19)]


@pytest.mark.parametrize(
    ("method", "numbers"),
    [
        ("sft", NUMBERS),
        ("sft", NUMBERS | {"precision": "bf16"}),
        ("sft", NUMBERS | {"tuning": "full", "lora": None}),
        ("classification", {"max_steps": 3, "rows": LABELLED}),
    ],
    ids=["adapter", "bf16", "full", "head"],
)
def test_a_base_model_that_was_read_before_changes_nothing(tmp_path, method, numbers):
    model, found = make_tiny_model(tmp_path / "model"), []
    for name in ("cold", "warm"):
        config = configured(tmp_path / name, model, method=method, **numbers)
        if name == "warm":
            practise(model)
        with mock.patch.object(model_module, "load_base", wraps=model_module.load_base) as load:
            recorder, died = run(config)
        assert not died
        found.append((recorder.values, weights_sha256(config), load.called))
    assert found[0][:2] == found[1][:2]
    assert found[0][2]
    # A head is drawn while the model is loaded.
    assert found[1][2] == (method == "classification")


def test_what_was_read_serves_one_run_of_that_model(tmp_path):
    model = make_tiny_model(tmp_path / "model")
    other = shutil.copytree(model, tmp_path / "other")
    practise(model)
    assert kept_base.renderer_of(model) is kept_base.renderer_of(model)
    assert kept_base.renderer_of(other) is not kept_base.renderer_of(other)
    assert kept_base.take_model(other, torch.float32) is None
    assert kept_base.take_model(model, torch.float32) is None, "whatever is not taken gives its memory back"
    practise(model)
    assert kept_base.take_model(model, torch.float32) is not None
    assert kept_base.take_model(model, torch.float32) is None, "it has an adapter now"


def test_a_base_model_that_cannot_be_read_is_the_run_s_to_tell(tmp_path):
    model = make_tiny_model(tmp_path / "model")
    (model / "model.safetensors").write_bytes(b"no weights")
    practise(model)
    assert kept_base.take_model(model, torch.float32) is None
    (model / "tokenizer.json").write_text(json.dumps({}))
    practise(model)
    assert kept_base.take_model(model, torch.float32) is None


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


def test_threads_sleep_while_they_wait_in_a_warm_process_too():
    """How they wait is settled when torch is loaded; threads that spin make a step several times slower beside other work."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "DS_"))}
    loaded = subprocess.run(
        [sys.executable, "-c", "import services.trainer.training.practice"],
        env=environment | {"OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "GOMP_SPINCOUNT = '0'" in loaded.stderr


def test_no_compiler_is_loaded_for_an_optimizer_that_nobody_asked_for():
    """DeepSpeed imports it at the beginning of every run under ZeRO."""
    program = """
import sys
import services.trainer.training.imports
import deepspeed.runtime.zero.muon.muon_optimizer
sys.exit("torch._inductor.codecache" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | {"DS_ACCELERATOR": "cpu"}, check=False)
    assert done.returncode == 0
