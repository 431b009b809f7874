"""The model to export in fp32: base model and what was learned, as they are when the adapter is used; one place for every kind of
artifact a task leaves."""

from typing import Any

import torch
from peft import PeftConfig, PeftModel
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from services.common.errors import ServiceError
from services.trainer.training.config import InitialWeights
from services.trainer.training.exporting.config import ExportConfig
from services.trainer.training.initial import load_initial
from services.trainer.training.model import add_adapter

_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError)


def load_source(config: ExportConfig) -> Any:
    """A model of transformers, or one of peft around it, in evaluation mode. fp32 whatever is stored: sums are rounded once, when
    the result is written.

    Raises ServiceError BASE_MODEL_UNUSABLE, ARTIFACT_UNUSABLE or INITIAL_WEIGHTS_UNFIT.
    """
    if config.source_kind in ("MODEL", "MERGED"):
        return _whole(config.source_dir, "ARTIFACT_UNUSABLE").eval()
    base = _whole(config.base_model_dir, "BASE_MODEL_UNUSABLE")
    base.name_or_path = config.base_model
    return (_with_adapter(base, config) if config.source_kind == "ADAPTER" else _at_checkpoint(base, config)).eval()


def merged(model: Any) -> Any:
    """A model without adapters: rsLoRA, DoRA and plain LoRA alike become weights. Raises ServiceError ARTIFACT_UNUSABLE."""
    if not isinstance(model, PeftModel):
        return model
    try:
        return model.merge_and_unload(progressbar=False, safe_merge=True)
    except ValueError as error:
        raise ServiceError("ARTIFACT_UNUSABLE", f"the adapter cannot be merged: {error}") from error


def _whole(directory: Any, reason: str) -> Any:
    try:
        return AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
    except _UNREADABLE as error:
        raise ServiceError(reason, f"the model cannot be loaded: {error}") from error


def _with_adapter(base: Any, config: ExportConfig) -> Any:
    try:
        # Without this file peft would look for pickled weights.
        if not (config.source_dir / "adapter_model.safetensors").is_file():
            raise ValueError("it has no adapter_model.safetensors")
        described = PeftConfig.from_pretrained(str(config.source_dir))
        if described.peft_type != "LORA" or described.task_type != "CAUSAL_LM":
            raise ValueError(f"it is of type {described.peft_type}, {described.task_type}; expected LORA, CAUSAL_LM")
        return PeftModel.from_pretrained(base, str(config.source_dir), config=described)
    except _UNREADABLE as error:
        raise ServiceError("ARTIFACT_UNUSABLE", f"the adapter cannot be loaded: {error}") from error


def _at_checkpoint(base: Any, config: ExportConfig) -> Any:
    model = add_adapter(base, config.lora, "CAUSAL_LM") if config.lora else base
    load_initial(model, InitialWeights(config.source_dir, "CHECKPOINT"))
    return model
