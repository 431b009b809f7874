"""Hyperparameters as people write them."""

import pytest

from tunesmith.errors import InvalidArgument
from tunesmith.hyperparameters import build, known_keys, parse_settings
from tunesmith.v1.task_spec_pb2 import Hyperparameters, Lora


@pytest.mark.parametrize(
    "written",
    [{"lora": {"rank": 8}}, {"lora.rank": 8}, {"lora_rank": 8}, {"lora.rank": "8"}],
)
def test_nested_dotted_and_joined_mean_the_same(written):
    assert build(written) == Hyperparameters(lora=Lora(rank=8))


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("learning_rate", "1e-4", 1e-4),
        ("max_steps", "10", 10),
        ("lr_scheduler_type", "cosine", "cosine"),
        ("num_train_epochs", "0.5", 0.5),
        ("lora.use_rslora", "true", True),
        ("lora.use_rslora", "no", False),
    ],
)
def test_text_becomes_the_fields_type(key, text, value):
    numbers = build({key: text})
    owner = numbers.lora if key.startswith("lora.") else numbers
    assert getattr(owner, key.removeprefix("lora.")) == value


@pytest.mark.parametrize("value", ["q_proj, v_proj", ["q_proj", "v_proj"]])
def test_a_list_is_comma_separated_or_a_list(value):
    assert list(build({"lora.target_modules": value}).lora.target_modules) == ["q_proj", "v_proj"]


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("learnig_rate", "learning_rate"),
        ("epochs", "num_train_epochs"),
        ("lr", "learning_rate"),
        ("batch_size", "global_batch_size"),
        ("lora.rnk", "lora.rank"),
        ("rank", "lora.rank"),
    ],
)
def test_an_unknown_key_is_refused_with_what_was_probably_meant(key, meant):
    with pytest.raises(InvalidArgument) as caught:
        build({key: 1})
    assert caught.value.reason == "HYPERPARAMETER_UNKNOWN"
    assert caught.value.hint == f"Did you mean {meant}?"


def test_a_key_like_nothing_lists_the_known():
    with pytest.raises(InvalidArgument, match="zzz") as caught:
        build({"zzz": 1})
    assert "learning_rate" in caught.value.hint


@pytest.mark.parametrize(
    ("key", "value"), [("max_steps", "many"), ("max_steps", 1.5), ("lora.use_rslora", "maybe"), ("seed", 2**70)]
)
def test_a_value_of_another_type_is_refused(key, value):
    with pytest.raises(InvalidArgument) as caught:
        build({key: value})
    assert caught.value.reason == "HYPERPARAMETER_INVALID"


def test_nothing_given_sets_nothing():
    assert build({}) == Hyperparameters()


def test_zero_is_set_and_not_the_same_as_unset():
    assert build({"warmup_ratio": 0}).HasField("warmup_ratio")


def test_settings_split_at_the_first_equals_sign():
    assert parse_settings(["a=b=c", " x = 1 "]) == {"a": "b=c", "x": "1"}


@pytest.mark.parametrize("setting", ["learning_rate", "=1"])
def test_a_setting_without_key_or_sign_is_refused(setting):
    with pytest.raises(InvalidArgument):
        parse_settings([setting])


def test_every_field_of_the_contract_is_a_key():
    for name in Hyperparameters.DESCRIPTOR.fields_by_name:
        assert name in known_keys() or name in ("lora", "preference")
