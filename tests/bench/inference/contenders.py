"""What writes tokens in the measurement: our engine and its peers, on the same weights, prompts and number of tokens."""

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from services.inference.engine import Engine, GenerationRequest
from services.inference.engine_process import Options
from services.inference.remote_engine import EngineProcess, RemoteEngine

BASE = "baseModels/bench"
GGUF_VARIABLE = "TUNESMITH_BENCH_GGUF"
VLLM_VARIABLE = "TUNESMITH_BENCH_VLLM_PYTHON"
_TICKETS = itertools.count(1)

Prompts = Sequence[tuple[int, ...]]
Write = Callable[[Prompts], int]
"""Writes the agreed number of tokens behind each prompt, all at once; returns how many in all."""


def engine_of(model: Path, threads: int, *, half: bool = False) -> Engine:
    """Ours with the base model in a process of its own, as it is served; nothing is remembered between the rounds."""
    options = Options(threads=threads, prefix_tokens=0, pack_up_to=2**30, half=half)
    engine = RemoteEngine(lambda: EngineProcess.start(options))
    engine.load_base(BASE, model)
    return engine


def vllm_engine(model: Path, threads: int) -> Engine | None:
    """vLLM behind our port, in the environment whose interpreter is named; None = none is."""
    if not (python := os.environ.get(VLLM_VARIABLE)):
        return None
    options = Options(threads=threads, prefix_tokens=0, pack_up_to=0, engine="vllm", cache_bytes=2**30)
    engine = RemoteEngine(lambda: EngineProcess.start(options, Path(python)))
    engine.load_base(BASE, model)
    return engine


def ours(engine: Engine, count: int, adapters: Sequence[str | None] = (None,)) -> Write:
    """Our engine; the prompts take turns with the adapters."""

    def write(prompts: Prompts) -> int:
        left = {}
        for index, prompt in enumerate(prompts):
            ticket = next(_TICKETS)
            engine.admit(ticket, GenerationRequest(BASE, adapters[index % len(adapters)], prompt, count))
            left[ticket] = count
        while left:
            for ticket in engine.step(BASE):
                left[ticket] -= 1
                if not left[ticket]:
                    engine.leave(ticket)
                    del left[ticket]
        return count * len(prompts)

    return write


def generate(model: Any, count: int) -> Write:
    """`generate` of transformers: one padded batch."""

    def write(prompts: Prompts) -> int:
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        with torch.inference_mode():
            written = model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=count, min_new_tokens=count, do_sample=False, pad_token_id=0
            )
        return int(written.shape[1] - width) * len(prompts)

    return write


def continuous(model: Any, count: int) -> Write:
    """The continuous batching of transformers; its start is part of each call, as `generate_batch` has it."""
    settings = GenerationConfig(max_new_tokens=count, min_new_tokens=count, do_sample=False, eos_token_id=-1, pad_token_id=0)

    def write(prompts: Prompts) -> int:
        answers = model.generate_batch(
            inputs=[list(prompt) for prompt in prompts], generation_config=settings, progress_bar=False
        )
        return sum(len(answer.generated_tokens) for answer in answers.values())

    return write


def llama_cpp(count: int, threads: int) -> Write | None:
    """llama.cpp on the GGUF file that the environment names, one stream after the other; None = it is not there."""
    path = os.environ.get(GGUF_VARIABLE)
    try:
        from llama_cpp import Llama
    except ImportError:
        return None
    if not path:
        return None
    llama = Llama(path, n_ctx=1024, n_threads=threads, verbose=False)

    def write(prompts: Prompts) -> int:
        for prompt in prompts:
            llama.reset()
            for _ in itertools.islice(llama.generate(list(prompt), temp=0.0), count):
                pass
        return count * len(prompts)

    return write


def plain_model(model: Path, dtype: torch.dtype = torch.float32) -> Any:
    """As transformers loads it."""
    return AutoModelForCausalLM.from_pretrained(model, dtype=dtype).eval().requires_grad_(False)
