"""CONFIG.json: what is accepted, and that every refusal names the key."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from training_configs import config, config_json

from services.trainer.training.config import ConfigError, load_config, parse_config


def test_a_valid_configuration_becomes_a_tree_of_frozen_dataclasses():
    parsed = config(lora={"target_modules": ["q_proj", "v_proj"]}, max_steps=7)
    assert parsed.base_model_dir == Path("models/tiny")
    assert parsed.hyperparameters.max_steps == 7
    assert parsed.hyperparameters.lora.target_modules == ("q_proj", "v_proj")
    with pytest.raises(dataclasses.FrozenInstanceError):
        parsed.run = "runs/other"


def test_whole_numbers_are_accepted_where_a_fraction_may_stand():
    epochs = config(num_train_epochs=3).hyperparameters.num_train_epochs
    assert (epochs, type(epochs)) == (3.0, float)


def test_a_file_reads_like_the_value_in_it(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config_json()))
    assert load_config(path) == config()


def test_a_file_that_is_not_json_is_refused(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        load_config(path)


@pytest.mark.parametrize("key", config_json())
def test_every_key_is_required(key):
    value = config_json()
    del value[key]
    with pytest.raises(ConfigError, match=rf"^config\.{key}: missing"):
        parse_config(value)


@pytest.mark.parametrize("key", config_json()["hyperparameters"])
def test_every_hyperparameter_is_required(key):
    value = config_json()
    del value["hyperparameters"][key]
    with pytest.raises(ConfigError, match=rf"^config\.hyperparameters\.{key}: missing"):
        parse_config(value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"surprise": 1}, "config.hyperparameters.surprise: unknown key"),
        ({"lora": {"r": 8}}, "config.hyperparameters.lora.r: unknown key"),
        ({"learning_rate": "2e-4"}, "config.hyperparameters.learning_rate: expected a number, not '2e-4'"),
        ({"learning_rate": True}, "config.hyperparameters.learning_rate: expected a number, not True"),
        ({"seed": 1.5}, "config.hyperparameters.seed: expected a value of type int, not 1.5"),
        ({"seed": True}, "config.hyperparameters.seed: expected a value of type int, not True"),
        ({"seed": None}, "config.hyperparameters.seed: expected a value of type int, not None"),
        ({"lr_scheduler_type": "step"}, "config.hyperparameters.lr_scheduler_type: expected one of cosine, linear, constant"),
        ({"precision": "fp8"}, "config.hyperparameters.precision: expected one of fp32, fp16, bf16, not 'fp8'"),
        ({"lora": {"target_modules": []}}, "lora.target_modules: expected a list with at least one item"),
        ({"lora": {"target_modules": [1]}}, "lora.target_modules[0]: expected a value of type str, not 1"),
        ({"paths": {"train_file": ""}}, "config.train_file: expected a path"),
        ({"paths": {"method": "grpo"}}, "config.method: expected one of sft, dpo, kto, orpo, cpt, classification, not 'grpo'"),
        ({"paths": {"tuning": "prefix"}, "lora": {}}, "config.tuning: expected one of lora, qlora, full"),
        ({"preference": {}}, "config.hyperparameters.preference: belongs to methods dpo, kto, orpo"),
        ({"paths": {"extra": 1}}, "config.extra: unknown key"),
        ({"global_batch_size": 9}, "global_batch_size: 9 is not per_device_train_batch_size x"),
    ],
)
def test_a_wrong_value_is_refused_by_its_path(change, says):
    with pytest.raises(ConfigError) as caught:
        parse_config(config_json(**change))
    assert says in str(caught.value)


@pytest.mark.parametrize("method", ["dpo", "kto", "orpo"])
def test_preference_methods_need_their_numbers(method):
    value = config_json(paths={"method": method})
    assert parse_config(value).hyperparameters.preference.beta == 0.1
    value["hyperparameters"]["preference"] = None
    with pytest.raises(ConfigError, match="preference: belongs to methods"):
        parse_config(value)


@pytest.mark.parametrize("tuning", ["lora", "qlora"])
def test_both_tunings_with_an_adapter_have_its_numbers(tuning):
    value = config_json(paths={"tuning": tuning})
    assert parse_config(value).has_adapter
    value["hyperparameters"]["lora"] = None
    with pytest.raises(ConfigError, match="lora: belongs to tunings lora and qlora"):
        parse_config(value)


def test_full_tuning_has_no_adapter():
    value = config_json(paths={"tuning": "full"})
    assert parse_config(value).hyperparameters.lora is None
    value["hyperparameters"]["lora"] = config_json()["hyperparameters"]["lora"]
    with pytest.raises(ConfigError, match="lora: belongs to tunings lora and qlora"):
        parse_config(value)


@pytest.mark.parametrize("value", [None, [], "x", 1])
def test_anything_but_an_object_is_refused(value):
    with pytest.raises(ConfigError, match="config: expected an object"):
        parse_config(value)


def test_configuration_and_data_load_without_torch():
    names = "config deepspeed_config data batches schedule events progress failures meter objectives.forms __main__"
    modules = names.split()
    imports = ", ".join(f"services.trainer.training.{module}" for module in modules)
    code = f"import sys, {imports}; print([m for m in ('torch', 'transformers', 'peft', 'deepspeed') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
