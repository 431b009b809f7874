"""Numbers of adapters that were made elsewhere, and what training cannot continue."""

import json
from typing import Any

import pytest

from services.task_manager.domain.hyperparameters import Lora
from services.task_manager.domain.imported_adapter import lora_of, obstacle
from services.task_manager.origin_conversion import imported_adapter_facts, version_facts
from tunesmith.v1 import artifact_pb2, registered_model_pb2, task_spec_pb2

# As peft writes it.
CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 8,
    "lora_alpha": 16,
    "target_modules": ["v_proj", "q_proj"],
    "use_rslora": False,
    "use_dora": True,
    "bias": "none",
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
    "layers_to_transform": None,
    "lora_bias": False,
}
LORA = Lora(rank=8, alpha=16.0, target_modules=("q_proj", "v_proj"), use_rslora=False, use_dora=True, last_layers=0)
VERSION = registered_model_pb2.ModelVersion(
    name="models/mine/versions/3",
    format=registered_model_pb2.ModelVersion.ADAPTER,
    manifest=artifact_pb2.ArtifactManifest(base_model="baseModels/tiny", base_model_revision="r1"),
    size_bytes=7,
)


def found(**changes: Any) -> str:
    config = CONFIG | changes
    return obstacle(config, lora_of(config))


def test_the_numbers_are_those_of_the_file_in_an_order_that_does_not_depend_on_it() -> None:
    assert lora_of(CONFIG) == LORA
    assert found() == ""


def test_all_linear_stays_all_linear() -> None:
    assert lora_of(CONFIG | {"target_modules": "all-linear"}).target_modules == ("all-linear",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 4}, "modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"layers_to_transform": [1]}, "layers_to_transform"),
        ({"lora_bias": True}, "lora_bias"),
        ({"bias": "all"}, "biases"),
        ({"r": None}, "lacks r"),
        ({"r": True}, "lacks r"),
        ({"r": 8.5}, "lacks r"),
        ({"lora_alpha": "16"}, "lora_alpha"),
        ({"target_modules": ".*q_proj"}, "list of target_modules"),
        ({"target_modules": []}, "list of target_modules"),
        ({"target_modules": ["q_proj", 1]}, "list of target_modules"),
        ({"target_modules": ["q" * 201]}, "target_modules[0] must have"),
        ({"target_modules": [f"m{number}" for number in range(65)]}, "has 65 names"),
        ({"r": 0}, "adapter_config.json.lora.rank"),
        ({"r": 10**9}, "adapter_config.json.lora.rank"),
        ({"lora_alpha": float("nan")}, "adapter_config.json.lora.alpha"),
        ({"lora_alpha": float("inf")}, "adapter_config.json.lora.alpha"),
    ],
    ids=range(18),
)
def test_what_training_does_not_continue_is_an_obstacle(changes: dict[str, Any], said: str) -> None:
    assert said in found(**changes)


def test_an_imported_adapter_is_known_by_its_configuration() -> None:
    facts = imported_adapter_facts(VERSION, json.dumps(CONFIG).encode())
    assert (facts.name, facts.kind, facts.base_model) == ("models/mine/versions/3", "ADAPTER", "baseModels/tiny")
    assert (facts.hyperparameters.lora, facts.obstacle, facts.task, facts.expire_time) == (LORA, "", "", None)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff"], ids=range(6))
def test_a_configuration_that_cannot_be_read_is_an_obstacle(text: bytes) -> None:
    assert "lacks r" in imported_adapter_facts(VERSION, text).obstacle


def test_an_exported_version_is_known_by_its_manifest() -> None:
    version = registered_model_pb2.ModelVersion()
    version.CopyFrom(VERSION)
    version.manifest.task = "tasks/t"
    version.manifest.step = 9
    version.manifest.effective_hyperparameters.lora.rank = 4
    version.manifest.method = task_spec_pb2.FineTuning.DPO
    facts = version_facts(version)
    assert (facts.task, facts.step, facts.method, facts.hyperparameters.lora.rank) == ("tasks/t", 9, "DPO", 4)
