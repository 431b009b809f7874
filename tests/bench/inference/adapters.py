"""Adapters for the measurement: rank 8 on all linear layers, with random weights; the arithmetic does not mind."""

import time
from pathlib import Path

import psutil
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from services.inference.engine import Engine
from tests.bench.inference.contenders import BASE


def write_adapters(model: Path, directory: Path, count: int) -> dict[str, Path]:
    """Their directories by the name they are loaded under."""
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    tuned = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    found = {}
    for number in range(count):
        torch.manual_seed(number)
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.01)
        found[f"artifacts/{number}"] = directory / str(number)
        tuned.save_pretrained(found[f"artifacts/{number}"], save_embedding_layers=False)
    return found


def load_all(engine: Engine, adapters: dict[str, Path]) -> tuple[list[float], float]:
    """(seconds that each took to load, bytes of memory that each but the first added on average)."""
    seconds, resident = [], []
    for name, directory in adapters.items():
        start = time.perf_counter()
        engine.load_adapter(BASE, name, directory)
        seconds.append(time.perf_counter() - start)
        resident.append(_resident())
    return seconds, (resident[-1] - resident[0]) / (len(resident) - 1)


def _resident() -> int:
    """Of the processes of all engines; only one of them loads adapters."""
    return sum(process.memory_info().rss for process in psutil.Process().children())
