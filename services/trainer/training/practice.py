"""What a warm rank does before there is a run: all imports, once, with a model of nothing, what every run begins with, and the
reading of the base model that the next run is likely to start from.

The libraries make tables and start threads at their first use, and Python's collector looks at all that was imported again and
again; done beforehand, both are no part of a run's time. Touches no GPU, draws no number from anybody's sequence of random ones.
"""

import contextlib
import gc
import os
import tempfile
from pathlib import Path

from services.trainer.training.imports import get_ready

get_ready()  # again, and here, so that nothing sorts the import above below those that it prepares

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM  # noqa: E402

from services.common.errors import ServiceError  # noqa: E402
from services.common.rendering import Renderer  # noqa: E402
from services.trainer.training.config import Lora  # noqa: E402
from services.trainer.training.kept_base import KeptBase, keep  # noqa: E402
from services.trainer.training.model import add_adapter, load_base  # noqa: E402
from services.trainer.warm_start import BASE_VARIABLE  # noqa: E402

_SIZES = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 8}
_ADAPTER = Lora(rank=1, alpha=1.0, dropout=0.0, target_modules=("all-linear",), use_rslora=False, use_dora=False, last_layers=0)


def practise(base: Path | None = None) -> None:
    """As the module says; what is in memory then is not collected any more. Without `base` no model is kept."""
    with torch.random.fork_rng(devices=[]):
        _begin_with_nothing()
        if base is not None:
            _read(base)
    gc.collect()
    gc.freeze()


def _begin_with_nothing() -> None:
    """Loads a model, puts an adapter into it and takes a gradient."""
    with tempfile.TemporaryDirectory() as directory:
        LlamaForCausalLM(LlamaConfig(**_SIZES)).save_pretrained(directory)
        base = AutoModelForCausalLM.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        model = add_adapter(base, _ADAPTER, "CAUSAL_LM")
        model(input_ids=torch.zeros(1, 2, dtype=torch.long)).logits.sum().backward()


def _read(base: Path) -> None:
    # One that cannot be read is left for the run to complain about.
    with contextlib.suppress(ServiceError):
        keep(KeptBase(base, Renderer.from_directory(base), load_base(base, torch.float32)))


# With a GPU even a model on the CPU could make a library look for it.
if os.environ.get("DS_ACCELERATOR") == "cpu":
    practise(Path(name) if (name := os.environ.get(BASE_VARIABLE)) else None)
