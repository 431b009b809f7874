"""The Engine that computes with torch and transformers on the CPU, in fp32 unless told otherwise.

Importing this module takes seconds; `__main__` has it done in the engine's own thread, once the server is listening.
"""

import gc
import pathlib
from collections.abc import Mapping
from typing import Any

import structlog
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.utils import logging as transformers_logging

from services.common.errors import ServiceError
from services.inference.engine import GenerationRequest, Written
from services.inference.lean import LeanNetwork, fits
from services.inference.network import Network, StockNetwork
from services.inference.packing import is_packable, pack
from services.inference.running_batch import RunningBatch

log = structlog.get_logger()


class TransformersEngine:
    """Base models by name, each with its batch. `threads` 0 = torch's own choice; `prefix_tokens` as RunningBatch's.

    Base models of at most `pack_up_to` bytes of weights take up to twice the memory and write faster; `half` as in packed_weight.
    """

    def __init__(self, *, threads: int = 0, prefix_tokens: int = 0, pack_up_to: int = 0, half: bool = False) -> None:
        self._prefix_tokens = prefix_tokens
        self._pack_up_to = pack_up_to
        self._half = half
        self._threads = threads or torch.get_num_threads()
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        self._batches: dict[str, RunningBatch] = {}

    def load_base(self, name: str, directory: pathlib.Path) -> None:
        """See Engine."""
        # The environment may say otherwise (OMP_NUM_THREADS), and one thread packs weights for twice as long.
        torch.set_num_threads(self._threads)
        try:
            network = self._network(_load(directory))
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
            log.exception("base_model.load_failed", base_model=name)
            raise ServiceError("BASE_MODEL_UNUSABLE", f"{name} does not load: {error}") from error
        self._batches[name] = RunningBatch(network, threads=self._threads, prefix_tokens=self._prefix_tokens)

    def _network(self, model: Any) -> Network:
        is_small = model.get_memory_footprint(return_buffers=False) <= self._pack_up_to
        if is_small and is_packable(model) and fits(model):
            return LeanNetwork(model, half=self._half)
        if is_small and is_packable(model):
            pack(model, half=self._half)
        return StockNetwork(model)

    def load_adapter(self, base: str, name: str, directory: pathlib.Path) -> None:
        """See Engine."""
        self._batches[base].network.adapters.load(name, directory)

    def unload(self, name: str) -> None:
        """See Engine."""
        if self._batches.pop(name, None):
            # A layer whose forward pass was replaced refers to itself, and would keep its weights until some later collection.
            gc.collect()
        for batch in self._batches.values():
            batch.unload_adapter(name)

    def free_device_bytes(self) -> int:
        """See Engine."""
        return 0

    def admit(self, ticket: int, request: GenerationRequest) -> None:
        """See Engine."""
        self._batches[request.base].admit(ticket, request)

    def step(self, base: str) -> Mapping[int, Written | ServiceError]:
        """See Engine."""
        return self._batches[base].step()

    def leave(self, ticket: int) -> None:
        """See Engine."""
        for batch in self._batches.values():
            batch.leave(ticket)


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
    # Rows of a batch are padded, which a state that is no list of keys and values would read along.
    if strange := {type(layer).__name__ for layer in DynamicCache(config=model.config).layers if not _is_plain(layer)}:
        raise ValueError(f"its layers keep {', '.join(sorted(strange))}, expected keys and values of attention alone")
    return model.eval().requires_grad_(False)


def _is_plain(layer: object) -> bool:
    return type(layer) in (DynamicLayer, DynamicSlidingWindowLayer)
