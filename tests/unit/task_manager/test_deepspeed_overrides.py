"""What an expert may lay over DeepSpeed's configuration; everything else is refused by its path."""

import json
from typing import Any

import pytest

from services.task_manager.domain.deepspeed_overrides import MAX_CHARACTERS, violations


def refusals(value: Any, stage: int = 2) -> list[str]:
    text = value if isinstance(value, str) else json.dumps(value)
    found = list(violations(text, stage, "f"))
    assert all(violation.field == "f" for violation in found)
    return [violation.description for violation in found]


def zero(**keys: Any) -> dict[str, Any]:
    return {"zero_optimization": keys}


@pytest.mark.parametrize(
    ("value", "stage"),
    [
        ({}, 0),
        ({"communication_data_type": "fp32", "steps_per_print": 10, "gradient_predivide_factor": 2.0}, 0),
        (zero(offload_optimizer={"device": "cpu", "pin_memory": False}), 1),
        (zero(reduce_bucket_size=500_000_000, overlap_comm=True), 2),
        (zero(offload_param={"device": "cpu"}, stage3_param_persistence_threshold=1), 3),
    ],
)
def test_keys_that_change_how_but_not_what_is_learned_are_permitted(value: dict[str, Any], stage: int) -> None:
    assert refusals(value, stage) == []


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"train_batch_size": 8}, "train_batch_size: is what global_batch_size says"),
        ({"gradient_clipping": 1.0}, "gradient_clipping: is what max_grad_norm says"),
        ({"bf16": {"enabled": True}}, "bf16: is what precision says"),
        ({"optimizer": {"type": "Adam", "params": {"lr": 1}}}, "optimizer: is what learning_rate and weight_decay says"),
        (zero(stage=3), "zero_optimization.stage: is what zero_stage says"),
    ],
)
def test_what_another_field_says_is_refused_with_that_field(value: dict[str, Any], says: str) -> None:
    (text,) = refusals(value)
    assert text.startswith(says)


@pytest.mark.parametrize(
    "value",
    [
        {"surprise": 1},
        {"zero_optimization": 3},
        zero(offload_optimizer={"device": "cpu", "nvme_path": "/etc"}),
        {"checkpoint": {"load_universal": True}},
        {"elasticity": {}},
    ],
)
def test_a_key_that_is_not_on_the_list_is_refused_with_the_list(value: dict[str, Any]) -> None:
    (text,) = refusals(value)
    assert "is not a key that may be set" in text
    assert "zero_optimization.overlap_comm" in text


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (zero(overlap_comm="yes"), 'zero_optimization.overlap_comm: "yes" is not true or false'),
        (zero(reduce_bucket_size=0), "0 is not a whole number, at least 1"),
        (zero(reduce_bucket_size=True), "true is not a whole number"),
        (zero(reduce_bucket_size=5e8), "is not a whole number"),
        (zero(offload_optimizer={"device": "nvme"}), '"nvme" is not none or cpu'),
        ({"gradient_predivide_factor": 0}, "0 is not a number above 0"),
        ({"communication_data_type": "int8"}, '"int8" is not fp32, fp16 or bf16'),
    ],
)
def test_a_value_of_another_kind_is_refused_with_the_kind(value: dict[str, Any], says: str) -> None:
    (text,) = refusals(value)
    assert says in text


@pytest.mark.parametrize(
    ("value", "stage"),
    [
        (zero(offload_optimizer={"device": "cpu"}), 0),
        (zero(offload_param={"device": "cpu"}), 2),
        (zero(stage3_max_live_parameters=1), 1),
    ],
)
def test_a_key_that_means_nothing_to_the_stage_is_refused(value: dict[str, Any], stage: int) -> None:
    (text,) = refusals(value, stage)
    assert f"means nothing with zero_stage {stage}" in text


@pytest.mark.parametrize("text", ["{", "[]", "7", "null", "NaN", "[" * 20_000, "x" * (MAX_CHARACTERS + 1), "[" * 9_000])
def test_anything_but_a_json_object_of_bounded_size_is_refused(text: str) -> None:
    assert len(refusals(text)) == 1


def test_every_wrong_key_is_told_at_once() -> None:
    assert len(refusals({"a": 1, "fp16": {}, "steps_per_print": 0})) == 3
