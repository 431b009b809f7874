"""Engines on random models in memory: as transformers computes them, and with the lean forward pass."""

import copy
from pathlib import Path

import torch
from fast_models import LLAMA3_POSITIONS, VOCABULARY, network
from peft import LoraConfig, get_peft_model

from services.inference.engine import GenerationRequest, Sampling
from services.inference.lean import LeanNetwork
from services.inference.network import Network, StockNetwork
from services.inference.running_batch import RunningBatch
from services.inference.transformers_engine import TransformersEngine

BASE = "baseModels/random"


def lively(family: str, **changes: object) -> object:
    """A model whose weights are large enough that it does not repeat one token for ever."""
    made = network(family, **changes)
    for parameter in made.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    return made


def in_float16(model: object) -> object:
    """The model with weights as a file in fp16 has them, in fp32."""
    return model.half().float()


MODELS = {
    "llama": lambda: lively("llama"),
    "llama-biases": lambda: lively("llama", attention_bias=True, mlp_bias=True),
    "llama-tied-wide-heads": lambda: lively("llama", tie_word_embeddings=True, head_dim=12),
    "llama3-positions": lambda: lively("llama", rope_parameters=LLAMA3_POSITIONS),
    "qwen2": lambda: lively("qwen2"),
    "qwen2-float16": lambda: in_float16(lively("qwen2")),
}
LONG = tuple(1 + index * 7 % (VOCABULARY - 1) for index in range(200))


def engine_on(computing: Network, *, prefix_tokens: int = 0) -> TransformersEngine:
    engine = TransformersEngine(threads=1)
    engine._batches[BASE] = RunningBatch(computing, threads=1, prefix_tokens=prefix_tokens)
    return engine


def lean(model: object, *, half: bool = False, prefix_tokens: int = 0) -> TransformersEngine:
    return engine_on(LeanNetwork(copy.deepcopy(model).eval().requires_grad_(False), half=half), prefix_tokens=prefix_tokens)


def stock(model: object, *, prefix_tokens: int = 0) -> TransformersEngine:
    return engine_on(StockNetwork(copy.deepcopy(model).eval().requires_grad_(False)), prefix_tokens=prefix_tokens)


def write_adapter(model: object, directory: Path, *, seed: int = 1, **config: object) -> Path:
    """A LoRA adapter whose random weights change the answers; `config` are fields of peft's LoraConfig."""
    torch.manual_seed(seed)
    lora = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **config})
    tuned = get_peft_model(copy.deepcopy(model), lora)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name or "lora_embedding_A" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    tuned.save_pretrained(directory)
    return directory


def asked(prompt: tuple[int, ...], count: int = 8, adapter: str | None = None, **fields: object) -> GenerationRequest:
    return GenerationRequest(BASE, adapter, prompt, count, **fields)


def drawn(seed: int) -> Sampling:
    return Sampling(temperature=1.0, seed=seed)
