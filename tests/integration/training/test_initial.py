"""A task that starts from what an earlier one has learned: the same weights at the beginning, and the right reference."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_model import make_tiny_model
from training_in_process import Killed, configured, run
from training_rows import rows

from services.common.errors import ServiceError

pytestmark = pytest.mark.integration

EARLIER = {"max_steps": 6, "save_steps": 6, "learning_rate": 0.02, "validation": False}
# The first loss of a run is measured before its first step: it tells the weights it started with.
CHILD = {"max_steps": 1, "learning_rate": 1e-9, "validation": False, "global_batch_size": 19, "per_device_train_batch_size": 19}
CHILD |= {"gradient_accumulation_steps": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module", params=["lora", "full"])
def earlier(request, tmp_path_factory, model):
    """(tuning, the directory of a run that has learned something)."""
    directory = tmp_path_factory.mktemp("earlier")
    _, died = run(configured(directory, model, tuning=request.param, **EARLIER))
    assert not died
    return request.param, directory


def started(directory, model, tuning, initial, **changes):
    config = configured(directory, model, tuning=tuning, **CHILD | changes)
    recorder, died = run(config | {"initial_weights": initial})
    assert not died
    return recorder


def first_loss(recorder):
    return float.fromhex(recorder.values[1, "loss"])


def test_result_and_checkpoint_of_the_same_step_are_the_same_beginning(tmp_path, model, earlier):
    tuning, directory = earlier
    kind = "ADAPTER" if tuning == "lora" else "MODEL"
    sources = {kind: directory / "output", "CHECKPOINT": directory / "checkpoints" / "step-6"}
    losses = {
        name: first_loss(started(tmp_path / name, model, tuning, {"kind": name, "directory": str(path)}))
        for name, path in sources.items()
    }
    untrained = first_loss(started(tmp_path / "none", model, tuning, None))
    assert losses[kind] == losses["CHECKPOINT"]
    assert losses[kind] < untrained - 0.1


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_the_reference_is_what_the_run_started_from_and_not_the_base_model(tmp_path, model, earlier, method):
    tuning, directory = earlier
    initial = {"kind": "CHECKPOINT", "directory": str(directory / "checkpoints" / "step-6")}
    recorder = started(
        tmp_path, model, tuning, initial, method=method, rows=rows(method), global_batch_size=4, per_device_train_batch_size=4
    )
    margins = [float.fromhex(value) for (step, name), value in recorder.values.items() if name == "rewards_margin"]
    assert margins == [pytest.approx(0.0, abs=1e-6)], "nothing has moved away from where it started"


@pytest.mark.parametrize("damage", ["rank", "cut", "missing", "renamed"])
def test_weights_that_do_not_fit_fail_with_the_reason(tmp_path, model, earlier, damage):
    tuning, directory = earlier
    name = {"lora": "output/adapter_model.safetensors", "full": "checkpoints/step-6/shared.safetensors"}[tuning]
    kind = {"lora": "ADAPTER", "full": "CHECKPOINT"}[tuning]
    (tmp_path / "weights").mkdir()
    target = tmp_path / "weights" / name.rsplit("/", 1)[1]
    tensors = load_file(directory / name)
    first = sorted(key for key in tensors if "lora_A" in key or key.startswith("weight/"))[0]
    if damage == "rank":
        tensors[first] = torch.zeros(3, 3)
    elif damage == "renamed":
        tensors["base_model.model.lora_A.other.weight" if tuning == "lora" else "weight/model.other"] = tensors.pop(first)
    if damage != "missing":
        save_file(tensors, target)
    if damage == "cut":
        target.write_bytes(target.read_bytes()[:-5])
    with pytest.raises(ServiceError) as caught:
        started(tmp_path, model, tuning, {"kind": kind, "directory": str(tmp_path / "weights")})
    assert caught.value.reason == "INITIAL_WEIGHTS_UNFIT"
    assert caught.value.message


def test_a_child_continues_after_its_death_with_its_own_weights(tmp_path, model, earlier, monkeypatch):
    from services.trainer.training.engine import Engine

    tuning, directory = earlier
    initial = {"kind": "CHECKPOINT", "directory": str(directory / "checkpoints" / "step-6")}
    numbers = {"max_steps": 4, "save_steps": 2, "learning_rate": 0.02}
    whole = configured(tmp_path / "whole", model, tuning=tuning, **numbers) | {"initial_weights": initial}
    broken = configured(tmp_path / "broken", model, tuning=tuning, **numbers) | {"initial_weights": initial}
    unbroken, _ = run(whole)
    calls = iter(range(1, 100))

    def apply(self, rate, method=Engine.apply):
        if next(calls) == 4:
            raise Killed
        method(self, rate)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "apply", apply)
        first, died = run(broken)
    assert died
    second, _ = run(broken)
    assert second.plan["resumed_step"] == max(first.saved)
    assert first.values | second.values == unbroken.values
