"""The fast path is taken for what it computes exactly and for nothing else; the log says why not."""

import logging

import pytest
import torch
from fast_models import adapted, frozen_in_bf16, network
from training_configs import config
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForCausalLM,
)

from services.trainer.training.fast import fast_decoder, fits

SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 32}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
WINDOW = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}


def test_every_model_of_the_tests_fits(model):
    assert fits(model.float(), config()) == ""


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        pytest.param(lambda: GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1)), "family gpt2", id="gpt2"),
        pytest.param(lambda: MistralForCausalLM(MistralConfig(**SMALL, num_key_value_heads=1)), "family mistral", id="mistral"),
        pytest.param(lambda: network(hidden_act="gelu"), "activation gelu", id="activation"),
        pytest.param(lambda: network(attention_dropout=0.1), "dropout", id="attention-dropout"),
        pytest.param(lambda: network("qwen2", **WINDOW), "window", id="window"),
        pytest.param(lambda: network(rope_parameters=DYNAMIC), "dynamic", id="positions"),
        pytest.param(lambda: network().bfloat16(), "bfloat16", id="bf16-weights"),
        pytest.param(lambda: frozen_in_bf16(adapted(network())), "bfloat16", id="bf16-weights-below-an-adapter"),
        pytest.param(lambda: adapted(network(), use_dora=True), "adapter", id="dora"),
    ],
)
def test_a_model_that_computes_otherwise_does_not_fit(made, reason):
    assert reason in fits(made(), config())


def test_a_merged_adapter_does_not_fit():
    model = adapted(network())
    model.merge_adapter()
    assert "adapter" in fits(model, config())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"precision": "fp16"}, "not in fp16", id="fp16"),
        pytest.param({"precision": "bf16", "paths": {"tuning": "full"}}, "all weights are trained", id="bf16-full"),
        pytest.param({"precision": "bf16"}, "a Linear of torch.float32", id="bf16-with-fp32-weights"),
        pytest.param({"zero_stage": 3}, "ZeRO stage 3", id="zero-3"),
    ],
)
def test_a_configuration_it_is_not_for_does_not_fit(changes, reason):
    assert reason in fits(network(), config(**changes))


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_frozen_weights_in_bf16_fit_that_precision(family):
    model = frozen_in_bf16(adapted(network(family)))
    assert fits(model, config(precision="bf16")) == ""
    model.get_output_embeddings().weight.data = torch.zeros(96, 48)
    assert "head" in fits(model, config(precision="bf16"))


def test_an_adapter_in_the_head_does_not_fit():
    assert "head" in fits(adapted(network(), target_modules=["q_proj", "lm_head"]), config())


def test_a_classifier_fits():
    shape = LlamaConfig(**SMALL, num_labels=2)
    assert fits(LlamaForSequenceClassification(shape), config()) == ""


def test_another_device_does_not_fit():
    with torch.device("meta"):
        made = network()
    assert "CPU" in fits(made, config())


def test_the_log_says_which_path_is_taken(caplog):
    caplog.set_level(logging.INFO)
    assert fast_decoder(network(), config()) is not None
    assert fast_decoder(network(), config(zero_stage=3)) is None
    assert caplog.messages == [
        "the fast path is taken",
        "the fast path is not taken: ZeRO stage 3 gathers weights module by module",
    ]
