"""Whether rows go through the model together changes how fast a run is, and nothing of what it learns."""

import json
from pathlib import Path

import pytest
from tiny_model import make_tiny_model
from training_in_process import configured, run

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def losses(directory: Path, model: Path, packing: bool) -> list[float]:
    config = configured(directory, model, max_steps=3, packing=packing)
    recorder, died = run(config)
    assert not died
    used = json.loads((directory / "deepspeed.json").read_text())["train_micro_batch_size_per_gpu"]
    asked = config["hyperparameters"]["per_device_train_batch_size"]
    assert (used > asked) is packing
    return [float.fromhex(value) for (_, name), value in sorted(recorder.values.items()) if name == "loss"]


def test_packed_and_unpacked_runs_have_the_same_losses(tmp_path: Path, model: Path) -> None:
    packed, unpacked = (losses(tmp_path / str(packing), model, packing) for packing in (True, False))
    assert len(packed) == 3
    assert packed == pytest.approx(unpacked, rel=1e-5)
