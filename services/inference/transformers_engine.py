"""The Engine that computes with torch and transformers on the CPU in fp32.

Importing this module takes seconds; `__main__` has it done in the engine's own thread, once the server is listening.
"""

import pathlib
from collections.abc import Iterator
from typing import Any

import structlog
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.utils import logging as transformers_logging

from services.common.errors import ServiceError
from services.inference.adapters import Adapters
from services.inference.engine import GenerationRequest
from services.inference.sampling import Sampler

log = structlog.get_logger()


class TransformersEngine:
    """Base models by name, each with its adapters. `threads` 0 = torch's own choice."""

    def __init__(self, *, threads: int = 0) -> None:
        self._threads = threads or torch.get_num_threads()
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        self._models: dict[str, Any] = {}
        self._adapters: dict[str, Adapters] = {}

    def load_base(self, name: str, directory: pathlib.Path) -> None:
        """See Engine."""
        try:
            model = _load(directory)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
            log.exception("base_model.load_failed", base_model=name)
            raise ServiceError("BASE_MODEL_UNUSABLE", f"{name} does not load: {error}") from error
        self._models[name] = model
        self._adapters[name] = Adapters(model)

    def load_adapter(self, base: str, name: str, directory: pathlib.Path) -> None:
        """See Engine."""
        self._adapters[base].load(name, directory)

    def unload(self, name: str) -> None:
        """See Engine."""
        self._models.pop(name, None)
        self._adapters.pop(name, None)
        for adapters in self._adapters.values():
            adapters.unload(name)

    def generate(self, request: GenerationRequest) -> Iterator[int]:
        """See Engine."""
        try:
            self._adapters[request.base].activate(request.adapter)
            yield from _tokens(self._models[request.base], request, self._threads)
        except (RuntimeError, ValueError, IndexError) as error:
            log.exception("generation.failed", base=request.base, adapter=request.adapter)
            raise ServiceError("GENERATION_FAILED", f"the model failed: {error}") from error


def _load(directory: pathlib.Path) -> Any:
    model, report = AutoModelForCausalLM.from_pretrained(
        directory,
        dtype=torch.float32,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    # Its body would load, and chat as if nothing had been tuned.
    if any("ForSequenceClassification" in name for name in model.config.architectures or ()):
        raise ValueError("it tells labels apart and cannot chat")
    # transformers fills what is missing with random numbers and only logs it.
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"its files lack {len(missing)} tensors, first {missing[0]}")
    return model.eval().requires_grad_(False)


@torch.inference_mode()
def _tokens(model: Any, request: GenerationRequest, threads: int) -> Iterator[int]:
    torch.set_num_threads(threads)
    sampler, cache = Sampler(request.sampling), DynamicCache(config=model.config)
    ids = torch.tensor([request.prompt])
    for _ in range(request.max_tokens):
        # Only the last position is needed; over the whole prompt the output head would cost as much as the rest of the model.
        output = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        token = sampler.choose(output.logits[0, -1])
        yield token
        ids = torch.tensor([[token]])
        # One token after the other is bound by memory: half the threads read as fast and wait less for each other.
        torch.set_num_threads(max(1, threads // 2))
