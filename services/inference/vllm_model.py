"""A base model in vLLM: the only module that imports it.

vLLM pins packages that ours pin otherwise, so it lives in an environment of its own, see docs/how-to/chat.md; the engine's
process is started with that environment's interpreter.
"""

import gc
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Read when vLLM is imported. Its engine in this process, which is one of its own already: guides are objects here.
os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1")
# Its threads would be bound to cores that others use, too.
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")

import numpy as np
import torch
from vllm import SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.llm_engine import LLMEngine
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

from services.inference.engine import Guide
from services.inference.vllm_adapter import MAX_RANK
from services.inference.vllm_engine import Step

_guides: dict[str, Guide] = {}
"""Of requests under way, by the name that their parameters carry: parameters are copied, a guide must not be."""

_GUIDE = "tunesmith_guide"
_ADAPTERS_AT_ONCE = 8
# The linear layers of the usual families. With the output head among them, vLLM could not judge prompts beside an adapter.
_ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "gate_proj", "up_proj", "down_proj", "gate_up_proj")
_MOST_LOGPROBS = 20


class GuideProcessor(AdapterLogitsProcessor):  # type: ignore[misc]
    """Leaves a row what its guide allows."""

    def is_argmax_invariant(self) -> bool:
        """See LogitsProcessor."""
        return False

    def new_req_logits_processor(self, params: Any) -> Callable[[list[int], torch.Tensor], torch.Tensor] | None:
        """See AdapterLogitsProcessor."""
        guide = _guides.get((params.extra_args or {}).get(_GUIDE, ""))
        return (lambda _, logits: _allowed(logits, guide.allowed())) if guide else None


class Vllm:
    """See VllmModel. `rows` at most are in a batch; `cache_bytes` hold their keys and values."""

    def __init__(self, directory: pathlib.Path, *, rows: int, cache_bytes: int, remembers: bool) -> None:
        self._engine = LLMEngine.from_engine_args(_engine_arguments(directory, rows, cache_bytes, remembers))
        self._adapters: dict[int, LoRARequest] = {}
        # Tickets are unique within the process, so guides of several base models do not meet.
        self._names: set[str] = set()

    def add(
        self, ticket: int, prompt: Sequence[int], arguments: Mapping[str, Any], guide: Guide | None, adapter: int | None
    ) -> None:
        """See VllmModel."""
        name = str(ticket)
        if guide:
            _guides[name] = guide
        extra = {_GUIDE: name} if guide else None
        parameters = SamplingParams(**arguments, output_kind=RequestOutputKind.DELTA, extra_args=extra)
        lora = None if adapter is None else self._adapters[adapter]
        self._engine.add_request(name, {"prompt_token_ids": list(prompt)}, parameters, lora_request=lora)
        self._names.add(name)

    def step(self) -> list[Step]:
        """See VllmModel."""
        return [
            Step(int(each.request_id), each.outputs[0].token_ids, each.outputs[0].logprobs, each.prompt_logprobs, each.finished)
            for each in self._engine.step()
        ]

    def abort(self, ticket: int) -> None:
        """See VllmModel."""
        self._names.discard(str(ticket))
        _guides.pop(str(ticket), None)
        self._engine.abort_request([str(ticket)])

    def add_adapter(self, number: int, directory: pathlib.Path) -> None:
        """See VllmModel."""
        request = LoRARequest(str(number), number, str(directory))
        if not self._engine.add_lora(request):
            raise ValueError("vLLM has refused it")
        self._adapters[number] = request

    def remove_adapter(self, number: int) -> None:
        """See VllmModel."""
        del self._adapters[number]
        self._engine.remove_lora(number)

    def close(self) -> None:
        """See VllmModel."""
        for name in self._names:
            _guides.pop(name, None)
        self._engine.engine_core.shutdown()
        del self._engine
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def free_device_bytes() -> int:
    """See Engine; of the device that vLLM takes."""
    return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else 0


def _engine_arguments(directory: pathlib.Path, rows: int, cache_bytes: int, remembers: bool) -> EngineArgs:
    has_gpu = torch.cuda.is_available()
    return EngineArgs(
        model=str(directory),
        skip_tokenizer_init=True,
        trust_remote_code=False,
        load_format="safetensors",
        # On a CPU as it was trained; a GPU is bought for its speed.
        dtype="auto" if has_gpu else "float32",
        enforce_eager=not has_gpu,
        enable_lora=True,
        max_loras=_ADAPTERS_AT_ONCE,
        max_lora_rank=MAX_RANK,
        lora_target_modules=list(_ADAPTED),
        max_num_seqs=rows,
        max_logprobs=_MOST_LOGPROBS,
        kv_cache_memory_bytes=cache_bytes,
        enable_prefix_caching=remembers,
        logits_processors=[GuideProcessor],
        # A guide says what is allowed once it knows the token before.
        async_scheduling=False,
        disable_log_stats=True,
    )


def _allowed(logits: torch.Tensor, bits: bytes) -> torch.Tensor:
    """See Guide; a token without a bit is not allowed. `logits` has the shape [vocabulary]."""
    mask = np.zeros(len(logits), dtype=np.bool_)
    known = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), bitorder="little")[: len(logits)]
    mask[: len(known)] = known
    return logits.masked_fill(~torch.from_numpy(mask).to(logits.device), -torch.inf)
