"""Merges, writes and compares what was written with what it was made of; used by the export's process."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModelForCausalLM

from services.trainer.training.export import save_json, save_model, versions
from services.trainer.training.exporting import gguf_file, likeness
from services.trainer.training.exporting.config import ExportConfig
from services.trainer.training.exporting.source import load_source, merged
from services.trainer.training.exporting.stages import Stages

_STAGES = 4
_BOUNDS = {torch.float32: 1e-4, torch.float16: 0.01, torch.bfloat16: 0.05}
"""Difference that the rounding of weights to this format may make, as a share of the spread of the logits (Likeness.share)."""
_GGUF_BOUNDS = {"F32": 1e-4, "F16": 0.01, "Q8_0": 0.08}
_COARSE = ("Q8_0",)
"""Whoever asks for these accepts that they round more than a weak adapter does."""
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Form:
    """A form that weights are written in."""

    write: Callable[[ExportConfig, Any, Path], tuple[str, float]]
    """Of a whole fp32 model, into a directory that does not exist; returns the number format and the permitted difference."""
    read: Callable[[Path], Any]
    """What is in that directory, fp32."""


def export(config: ExportConfig, stages: Stages) -> None:
    """Writes the output whole or not at all, and result.json beside it. One copy of the model in fp32 is in memory at a time.

    Raises ServiceError EXPORT_UNFAITHFUL, EXPORT_UNSUPPORTED, BASE_MODEL_UNUSABLE, ARTIFACT_UNUSABLE, INITIAL_WEIGHTS_UNFIT.
    """
    model = load_source(config)
    stages.begin(_STAGES, {"parameter_count": sum(each.numel() for each in model.parameters()), "device": "cpu"})
    stages.next("the model is loaded")
    token_ids = likeness.prompts(_files(config), model.config.get_text_config().vocab_size)
    expected = likeness.logits(model, token_ids, stages.alive)
    effect = _effect(model, token_ids, expected, stages)
    stages.next(f"asked {len(token_ids)} prompts")
    form, work = _FORMS[config.format], config.output_dir.parent / "unproved"
    shutil.rmtree(work, ignore_errors=True)
    model = merged(model)
    numbers, bound = form.write(config, model, work)
    del model
    stages.next(f"merged and written as {numbers}")
    found = likeness.likeness(expected, likeness.logits(form.read(work), token_ids, stages.alive))
    found.require(likeness.permitted(bound, None if numbers in _COARSE else effect))
    stages.next(f"loaded back: logits differ by {found.share:.3%} of their spread", **found.numbers())
    _finish(config, found.numbers() | ({} if effect is None else {"export_adapter_effect_share": effect}), work)


def _effect(model: Any, token_ids: list[Tensor], expected: list[Tensor], stages: Stages) -> float | None:
    """How far the adapter moves the logits, as a share of their spread; None without an adapter."""
    if not isinstance(model, PeftModel):
        return None
    with model.disable_adapter():
        return likeness.likeness(expected, likeness.logits(model, token_ids, stages.alive)).share


def _finish(config: ExportConfig, numbers: dict[str, float], work: Path) -> None:
    result = {"kind": config.format, "step": config.step, "metrics": numbers, "versions": versions()}
    save_json(result | {"rendered_rows_sha256": ""}, config.output_dir.parent / "result.json")
    # The face has made it, and a run that is started again replaces what its first try left.
    shutil.rmtree(config.output_dir, ignore_errors=True)
    work.rename(config.output_dir)


def _write_merged(config: ExportConfig, model: Any, work: Path) -> tuple[str, float]:
    dtype = stored_dtype(config.base_model_dir)
    save_model(model.to(dtype), config.base_model_dir, work)
    return str(dtype).removeprefix("torch."), _BOUNDS[dtype]


def _read_merged(work: Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(
        work, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
    )
    return model.eval()


def _write_gguf(config: ExportConfig, model: Any, work: Path) -> tuple[str, float]:
    work.mkdir()
    name = config.base_model.rpartition("/")[2]
    gguf_file.write(model, _files(config), work / gguf_file.file_name(config.gguf_type), config.gguf_type, name=name)
    return config.gguf_type, _GGUF_BOUNDS[config.gguf_type]


_FORMS = {
    "MERGED": Form(_write_merged, _read_merged),
    "GGUF": Form(_write_gguf, lambda work: gguf_file.read(next(work.iterdir()))),
}


def stored_dtype(directory: Path) -> torch.dtype:
    """The format most of a model directory's weights are stored in."""
    counts: dict[torch.dtype, int] = {}
    for file in directory.glob("*.safetensors"):
        with safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118 - not a dict
                dtype = _DTYPES.get(weights.get_slice(name).get_dtype(), torch.float32)
                counts[dtype] = counts.get(dtype, 0) + 1
    return max(counts, key=lambda dtype: counts[dtype], default=torch.float32)


def _files(config: ExportConfig) -> Path:
    """Where tokenizer and configuration are."""
    return config.source_dir if config.source_kind in ("MODEL", "MERGED") else config.base_model_dir
