"""The base model with a fresh adapter in it, and the checks that it can be trained; used by the wiring in `__main__`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from services.common.errors import ServiceError
from services.trainer.training.config import Lora, TrainConfig

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def load_model(config: TrainConfig, device: torch.device) -> PeftModel:
    """Frozen base weights in the configured precision, trainable fp32 adapter, on `device`.

    Raises ServiceError BASE_MODEL_UNUSABLE or INVALID_FIELD (target modules).
    """
    numbers = config.hyperparameters
    base = _load_base(config.base_model_dir, _DTYPES[numbers.precision or "fp32"])
    check_logits(base)
    # Every rank draws the same first adapter.
    torch.manual_seed(numbers.seed)
    model = add_adapter(base, numbers.lora, config.base_model)
    return model.to(device)


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """(trained, all)."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return trained, sum(parameter.numel() for parameter in model.parameters())


class ObjectiveModule(nn.Module):
    """Model and loss as the one module DeepSpeed wraps: its forward pass is the loss of one micro-batch."""

    def __init__(self, model: PeftModel, loss: Callable[[Any, Any], Tensor]) -> None:
        super().__init__()
        self.model = model
        self._loss = loss

    def forward(self, batch: Any) -> Tensor:
        """Sum of the loss over the micro-batch."""
        return self._loss(self.model.get_base_model(), batch)


def _load_base(directory: Path, dtype: torch.dtype) -> Any:
    try:
        return AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ServiceError("BASE_MODEL_UNUSABLE", f"the base model {directory.name} cannot be loaded: {error}") from error


def check_logits(base: Any) -> None:
    """Refuse a family that changes its logits after the output head (caps or scales them): objectives do not see that."""
    token_ids = torch.arange(4).unsqueeze(0) % base.config.get_text_config().vocab_size
    with torch.no_grad():
        expected = base(input_ids=token_ids, use_cache=False).logits
        ours = base.get_output_embeddings()(base.get_decoder()(input_ids=token_ids, use_cache=False).last_hidden_state)
    if not torch.allclose(expected.float(), ours.float(), rtol=1e-2, atol=1e-3):
        raise ServiceError(
            "BASE_MODEL_UNUSABLE",
            f"models of the family {base.config.model_type} change logits after the output head; that cannot be trained yet",
            hint="Choose a base model of another family, for example llama or qwen2.",
        )


def add_adapter(base: Any, lora: Lora, name: str) -> PeftModel:
    """Freeze `base` and put a fresh adapter into it. Raises ServiceError INVALID_FIELD when it lacks the target modules."""
    # peft writes this name into the adapter. Where the base lies on this machine means nothing to whoever loads it.
    base.name_or_path = name
    everything = lora.target_modules == ("all-linear",)
    adapter = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        # peft writes whole numbers as whole numbers; readers of other languages expect that.
        lora_alpha=int(lora.alpha) if lora.alpha.is_integer() else lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear" if everything else list(lora.target_modules),
        use_rslora=lora.use_rslora,
    )
    try:
        return get_peft_model(base, adapter)
    except ValueError as error:
        linear = sorted({path.rsplit(".", 1)[-1] for path, module in base.named_modules() if isinstance(module, nn.Linear)})
        raise ServiceError(
            "INVALID_FIELD",
            f"lora.target_modules {', '.join(lora.target_modules)}: {error}",
            hint=f"Use all-linear or some of: {', '.join(linear)}.",
        ) from error
