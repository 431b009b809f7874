"""The lean forward pass is taken for what it computes, and for nothing else."""

from pathlib import Path

import pytest
import torch
from fast_models import network
from lean_engines import BASE, MODELS
from tiny_model import make_tiny_model
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from services.inference.lean import LeanNetwork, fits
from services.inference.network import StockNetwork
from services.inference.transformers_engine import TransformersEngine

SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 32}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
WINDOW = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}


def with_another_linear_layer() -> object:
    class Scaled(torch.nn.Linear):
        pass

    made = network()
    made.model.layers[1].mlp.up_proj = Scaled(48, 40, bias=False)
    return made


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_of_the_tests_fits(name: str) -> None:
    assert fits(MODELS[name]())


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda: GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1)), id="gpt2"),
        pytest.param(lambda: MistralForCausalLM(MistralConfig(**SMALL, num_key_value_heads=1)), id="mistral"),
        pytest.param(lambda: network(hidden_act="gelu"), id="activation"),
        pytest.param(lambda: network("qwen2", **WINDOW), id="window"),
        pytest.param(lambda: network(rope_parameters=DYNAMIC), id="positions"),
        pytest.param(with_another_linear_layer, id="linear-layer"),
    ],
)
def test_a_model_that_computes_otherwise_does_not_fit(made: object) -> None:
    assert not fits(made())


@pytest.mark.parametrize(("pack_up_to", "kind"), [(27_136 * 4, LeanNetwork), (27_136 * 4 - 1, StockNetwork)])
def test_a_model_that_may_be_kept_twice_is_computed_so(tmp_path: Path, pack_up_to: int, kind: type) -> None:
    engine = TransformersEngine(threads=1, pack_up_to=pack_up_to)
    engine.load_base(BASE, make_tiny_model(tmp_path))
    assert type(engine._batches[BASE].network) is kind


def test_the_weights_that_are_there_stay_as_they_are() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    LeanNetwork(model, half=True)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
