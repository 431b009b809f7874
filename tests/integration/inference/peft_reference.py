"""Adapters written by peft, and greedy answers by peft and transformers alone: what the service's answers are held against."""

from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM


def write_adapter(
    base: Path,
    directory: Path,
    *,
    seed: int,
    target_modules: str | list[str],
    rank: int = 4,
    strength: float = 0.5,
    **config: object,
) -> Path:
    """A LoRA adapter whose random weights change every answer; `config` are further fields of peft's LoraConfig."""
    torch.manual_seed(seed)
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=target_modules, task_type="CAUSAL_LM", **config)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), lora)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=strength)
    model.save_pretrained(directory)
    return directory


def greedy(base: Path, adapter: Path | None, prompt: Sequence[int], count: int) -> list[int]:
    """The likeliest `count` tokens, each by a forward pass over everything before it, without a cache."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter:
        model = PeftModel.from_pretrained(model, adapter)
    model.eval()
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(count):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]
