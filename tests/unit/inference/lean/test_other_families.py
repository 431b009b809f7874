"""Families that transformers computes, with windows, fused layers and norms of their own: together as alone, with adapters."""

import copy
from pathlib import Path

import pytest
import torch
from engine_rows import together
from lean_engines import BASE, LONG, VOCABULARY, asked, stock, write_adapter
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
WINDOW = {"sliding_window": 8}
FAMILIES = {
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, **WINDOW)),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, **WINDOW, head_dim=12, sliding_window_pattern=2)),
    "phi3": lambda: Phi3ForCausalLM(Phi3Config(**SIZES)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=12)),
}
PLACES = ((0, 30, 20), (3, 5, 12), (7, 3, 25), (0, 150, 6), (2, 1, 20))
"""Of a prompt in LONG: first token, length, and how many are written."""
ADAPTER = "artifacts/lora"


@pytest.fixture(params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest) -> object:
    torch.manual_seed(3)
    made = FAMILIES[request.param]()
    for parameter in made.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    return made.eval().requires_grad_(False)


@torch.inference_mode()
def greedy(model: object, prompt: tuple[int, ...], count: int) -> list[int]:
    """Without a cache, one whole forward pass a token."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_rows_of_base_and_adapter_are_written_together_as_each_alone(family: object, tmp_path: Path) -> None:
    engine = stock(family, prefix_tokens=256)
    engine.load_adapter(BASE, ADAPTER, write_adapter(family, tmp_path))
    tuned = PeftModel.from_pretrained(copy.deepcopy(family), str(tmp_path)).eval()
    models = {None: family, ADAPTER: tuned}
    adapters = [None, ADAPTER, None, ADAPTER, ADAPTER]
    requests = [
        asked(LONG[first : first + length], count, adapter)
        for (first, length, count), adapter in zip(PLACES, adapters, strict=True)
    ]
    expected = [greedy(models[request.adapter], request.prompt, request.max_tokens) for request in requests]
    assert together(engine, requests) == expected
    assert together(engine, requests, stagger=3) == expected
    assert not any(isinstance(module, LoraLayer) for module in engine._batches[BASE].network.model.modules())
