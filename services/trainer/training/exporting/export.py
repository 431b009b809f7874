"""Merges, writes and compares what was written with what it was made of; used by the export's process."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModelForCausalLM

from services.common.errors import ServiceError
from services.trainer.training.export import save_json, save_model, versions
from services.trainer.training.exporting import gguf_file, likeness
from services.trainer.training.exporting.config import ExportConfig
from services.trainer.training.exporting.likeness import Likeness
from services.trainer.training.exporting.source import load_source, merged
from services.trainer.training.exporting.stages import Stages

_STAGES = 4
_BOUNDS = {torch.float32: 1e-4, torch.float16: 0.01, torch.bfloat16: 0.08}
"""Difference that the rounding of weights to this format may make, as a share of the spread of the logits (Likeness.share)."""
_GGUF_BOUNDS = {"F32": 1e-4, "F16": 0.01, "Q8_0": 0.08}
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def export(config: ExportConfig, stages: Stages) -> None:
    """Writes the output whole or not at all, and result.json beside it.

    Raises ServiceError EXPORT_UNFAITHFUL, EXPORT_UNSUPPORTED, BASE_MODEL_UNUSABLE, ARTIFACT_UNUSABLE, INITIAL_WEIGHTS_UNFIT.
    """
    model = load_source(config)
    stages.begin(_STAGES, {"parameter_count": sum(each.numel() for each in model.parameters()), "device": "cpu"})
    stages.next("the model is loaded")
    token_ids = likeness.prompts(_files(config), model.config.get_text_config().vocab_size)
    if not token_ids:
        raise ServiceError("EXPORT_UNSUPPORTED", "the model's tokenizer makes no tokens of the prompts that the check needs")
    expected = likeness.logits(model, token_ids, stages.alive)
    stages.next(f"asked {len(token_ids)} prompts")
    write = _write_gguf if config.format == "GGUF" else _write_merged
    found = write(config, merged(model), token_ids, expected, stages)
    stages.next(f"written and loaded back: logits differ by up to {found.largest:.3g}", **found.numbers())
    save_json(
        {
            "kind": config.format,
            "step": config.step,
            "metrics": found.numbers(),
            "rendered_rows_sha256": "",
            "versions": versions(),
        },
        config.output_dir.parent / "result.json",
    )


def _write_merged(config: ExportConfig, model: Any, token_ids: list[Tensor], expected: list[Tensor], stages: Stages) -> Likeness:
    dtype = stored_dtype(config.base_model_dir)
    save_model(model.to(dtype), config.base_model_dir, config.output_dir)
    stages.next(f"merged and written as {str(dtype).removeprefix('torch.')}")
    del model
    written = AutoModelForCausalLM.from_pretrained(
        config.output_dir, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
    )
    found = likeness.likeness(expected, likeness.logits(written.eval(), token_ids, stages.alive))
    _keep_if(found, _BOUNDS[dtype], config.output_dir)
    return found


def _write_gguf(config: ExportConfig, model: Any, token_ids: list[Tensor], expected: list[Tensor], stages: Stages) -> Likeness:
    with tempfile.TemporaryDirectory(dir=config.output_dir.parent, prefix=".gguf.") as work:
        path = Path(work) / gguf_file.NAME
        gguf_file.write(model, _files(config), path, config.gguf_type, name=config.base_model.rpartition("/")[2])
        stages.next(f"merged and written as {config.gguf_type}")
        del model
        found = likeness.likeness(expected, likeness.logits(gguf_file.read(path), token_ids, stages.alive))
        found.require(_GGUF_BOUNDS[config.gguf_type])
        shutil.rmtree(config.output_dir, ignore_errors=True)
        config.output_dir.mkdir()
        path.rename(config.output_dir / gguf_file.NAME)
    return found


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


def _keep_if(found: Likeness, bound: float, output: Path) -> None:
    try:
        found.require(bound)
    except ServiceError:
        shutil.rmtree(output, ignore_errors=True)
        raise
