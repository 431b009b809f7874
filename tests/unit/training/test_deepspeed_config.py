"""The configuration DeepSpeed gets."""

import pytest
from training_configs import config

from services.trainer.training.deepspeed_config import deepspeed_config


def test_batch_arithmetic_is_ours():
    settings = deepspeed_config(
        config(global_batch_size=48, per_device_train_batch_size=4, gradient_accumulation_steps=6, num_processes=2)
    )
    assert settings["train_batch_size"] == 48
    assert settings["train_micro_batch_size_per_gpu"] == 4
    assert settings["gradient_accumulation_steps"] == 6


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_zero_stage_and_clipping_are_passed_on(stage):
    settings = deepspeed_config(config(zero_stage=stage, max_grad_norm=0.3))
    assert settings["zero_optimization"] == {"stage": stage}
    assert settings["gradient_clipping"] == 0.3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_deepspeed_never_casts_because_the_adapter_stays_fp32(precision):
    settings = deepspeed_config(config(precision=precision))
    assert settings["bf16"] == settings["fp16"] == {"enabled": False}


def test_overrides_are_laid_over_ours_key_by_key():
    text = '{"zero_optimization": {"offload_optimizer": {"device": "cpu"}}, "steps_per_print": 7}'
    settings = deepspeed_config(config(zero_stage=2, deepspeed_overrides=text))
    assert settings["zero_optimization"] == {"stage": 2, "offload_optimizer": {"device": "cpu"}}
    assert settings["steps_per_print"] == 7
    assert settings["train_batch_size"] == deepspeed_config(config())["train_batch_size"]


def test_optimizer_and_schedule_are_not_deepspeeds():
    assert not {"optimizer", "scheduler"} & set(deepspeed_config(config()))


def test_nothing_is_left_to_a_launcher_to_fill_in():
    assert "auto" not in str(deepspeed_config(config()))
