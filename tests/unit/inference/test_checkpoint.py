"""Checkpoints as something that can answer."""

import json
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import LAYER, write_checkpoint
from inference_fakes import ARTIFACT
from safetensors.numpy import load_file
from tiny_model import make_tiny_model

from services.common.bundles import Bundle
from services.common.errors import ServiceError
from services.inference.checkpoint import Recipe, servable

BASE = Bundle("baseModels/tiny", Path("nowhere"), "baseModels/tiny", "r1")
LORA = {"r": 2, "lora_alpha": 4.0, "target_modules": ["q_proj"], "use_dora": True}


def stored(directory: Path) -> Bundle:
    return Bundle(ARTIFACT, directory, "baseModels/tiny", "r1", kind="CHECKPOINT")


def test_the_trained_weights_become_an_adapter_under_the_names_of_peft(tmp_path: Path) -> None:
    weights = {f"{LAYER}.lora_{side}.default.weight": np.full((2, 2), number, np.float32) for number, side in enumerate("AB")}
    weights[f"{LAYER}.lora_magnitude_vector.default.weight"] = np.ones(2, np.float32)
    made = servable(stored(write_checkpoint(tmp_path / "c", weights)), Recipe("SFT", LORA), BASE)
    assert (made.is_adapter, made.name) == (True, ARTIFACT)
    written = load_file(made.directory / "adapter_model.safetensors")
    assert set(written) == {f"{LAYER}.lora_A.weight", f"{LAYER}.lora_B.weight", f"{LAYER}.lora_magnitude_vector"}
    assert written[f"{LAYER}.lora_B.weight"].tolist() == [[1, 1], [1, 1]]
    config = json.loads((made.directory / "adapter_config.json").read_text())
    assert config | LORA == config
    assert (config["peft_type"], config["task_type"]) == ("LORA", "CAUSAL_LM")


def test_an_adapter_in_some_layers_says_which(tmp_path: Path) -> None:
    names = [LAYER.replace(".0.", f".{layer}.").replace("q_proj", module) for layer in (2, 3) for module in ("q_proj", "v_proj")]
    weights = {f"{name}.lora_{side}.default.weight": np.ones((2, 2), np.float32) for name in names for side in "AB"}
    recipe = Recipe("SFT", LORA | {"target_modules": "all-linear"}, last_layers=2)
    made = servable(stored(write_checkpoint(tmp_path / "c", weights)), recipe, BASE)
    config = json.loads((made.directory / "adapter_config.json").read_text())
    assert (config["target_modules"], config["layers_to_transform"]) == (["q_proj", "v_proj"], [2, 3])


def test_weights_of_a_whole_model_become_a_model_with_all_else_of_the_base(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base")
    weights = {name: value + 1 for name, value in load_file(base / "model.safetensors").items()}
    made = servable(stored(write_checkpoint(tmp_path / "c", weights)), Recipe("SFT", None), Bundle("b", base, "b", "r1"))
    assert not made.is_adapter
    assert {path.name for path in made.directory.iterdir()} == {path.name for path in base.iterdir()}
    written = load_file(made.directory / "model.safetensors")
    assert all((written[name] == value).all() for name, value in weights.items())


def test_it_is_written_once(tmp_path: Path) -> None:
    checkpoint = stored(write_checkpoint(tmp_path / "c"))
    first = servable(checkpoint, Recipe("SFT", LORA), BASE)
    (checkpoint.directory / "shared.safetensors").unlink()
    assert servable(checkpoint, Recipe("SFT", LORA), BASE) == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "c-servable"]


@pytest.mark.parametrize(
    ("recipe", "weights", "reason", "says"),
    [
        (Recipe("SFT", LORA), {}, "CHECKPOINT_UNSERVABLE", "ZeRO stage 3"),
        (Recipe("CLASSIFICATION", LORA), None, "ARTIFACT_UNUSABLE", "tells labels apart"),
    ],
    ids=["cut", "classifier"],
)
def test_what_cannot_answer_is_refused_and_leaves_nothing(
    recipe: Recipe, weights: dict[str, np.ndarray] | None, reason: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(ServiceError, match=says) as refused:
        servable(stored(write_checkpoint(tmp_path / "c", weights)), recipe, BASE)
    assert refused.value.reason == reason
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path / "c")
    content = (directory / "shared.safetensors").read_bytes()
    (directory / "shared.safetensors").write_bytes(content[:-4])
    with pytest.raises(ServiceError, match="cannot be read") as refused:
        servable(stored(directory), Recipe("SFT", LORA), BASE)
    assert refused.value.reason == "ARTIFACT_UNUSABLE"
