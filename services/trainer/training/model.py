"""The model to train, whole or with a fresh adapter in it, and the checks that it can be; used by the wiring in `__main__`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BitsAndBytesConfig

from services.common.errors import ServiceError
from services.trainer.training.config import Lora, TrainConfig
from services.trainer.training.fast import FastDecoder
from services.trainer.training.kept_base import take_model
from services.trainer.training.lanes import Lanes, summed
from services.trainer.training.last_layers import adapted_modules, tuned_layers
from services.trainer.training.objectives.objective import Objective
from services.trainer.training.objectives.policy import Policy

_PLAIN = tuple(
    f"transformers.models.{name}" for name in ("llama.modeling_llama.LlamaForCausalLM", "qwen2.modeling_qwen2.Qwen2ForCausalLM")
)
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def load_model(config: TrainConfig, labels: Sequence[str], device: torch.device) -> Any:
    """On `device`: frozen base weights in the configured precision with a trainable fp32 adapter, or all weights to be trained.

    With `labels` the model has a fresh head that tells them apart instead of its output head. Raises ServiceError
    BASE_MODEL_UNUSABLE or INVALID_FIELD (target modules).
    """
    numbers = config.hyperparameters
    # Every rank draws the same first adapter and the same first head.
    torch.manual_seed(numbers.seed)
    kept = take_model(config.base_model_dir, frozen_dtype(config))
    fits = kept is not None and not labels and config.tuning != "qlora"
    base: Any = kept if fits else load_base(config.base_model_dir, frozen_dtype(config), labels, **_placement(config, device))
    if config.tuning == "qlora":
        _keep_scales(base)
    # peft writes this name into the adapter. Where the base lies on this machine means nothing to whoever loads that.
    base.name_or_path = config.base_model
    if not labels and not has_plain_logits(base):
        check_logits(base)
    model = add_adapter(base, numbers.lora, "SEQ_CLS" if labels else "CAUSAL_LM") if numbers.lora else base
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model if config.tuning == "qlora" else model.to(device)


def frozen_dtype(config: TrainConfig) -> torch.dtype:
    """Of the weights as they are loaded; those that are trained are fp32 whatever the precision."""
    return _DTYPES[config.hyperparameters.precision or "fp32"] if config.has_adapter else torch.float32


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """(trained, all)."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return trained, sum(parameter.numel() for parameter in model.parameters())


class ObjectiveModule(nn.Module):
    """Model and objective as the one module DeepSpeed wraps: its forward pass is what the objective computes of a micro-batch."""

    def __init__(
        self,
        model: Any,
        objective: Objective,
        autocast: torch.dtype | None = None,
        decoder: FastDecoder | None = None,
        *,
        packs: bool = False,
    ) -> None:
        """`autocast` = format of activations when it is not that of the weights; `decoder` = what stands in for the model's;
        `packs`: the model's own takes rows behind each other."""
        super().__init__()
        self.model = model
        self._objective = objective
        self._autocast = autocast
        self._decoder = decoder
        self._packs = packs

    def forward(self, batch: Any, baseline: Tensor | None = None, *, ask: str = "loss") -> Tensor:
        """Sums of the micro-batch; `ask` for `loss`, `baseline` or `reference` of the objective. Those of lanes are added up."""
        if isinstance(batch, Lanes):
            trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            return summed(lambda part: self.forward(part, baseline, ask=ask), batch, trained)
        policy = Policy(self.model, self._decoder, packs=self._packs)
        device = next(self.model.parameters()).device.type
        with torch.autocast(device, dtype=self._autocast or torch.bfloat16, enabled=self._autocast is not None):
            if ask == "baseline":
                return self._objective.baseline(policy, batch)
            if ask == "reference":
                return self._objective.reference(policy, batch)
            return self._objective.loss(policy, batch, baseline)


def autocast_dtype(config: TrainConfig) -> torch.dtype | None:
    """What activations are cast to when all weights are trained: those stay fp32."""
    precision = config.hyperparameters.precision or "fp32"
    return _DTYPES[precision] if config.tuning == "full" and precision != "fp32" else None


def load_base(directory: Path, dtype: torch.dtype, labels: Sequence[str] = (), **placement: Any) -> Any:
    """On the CPU unless `placement` says otherwise, with a fresh head for `labels` if there are any.

    Raises ServiceError BASE_MODEL_UNUSABLE.
    """
    common = {"dtype": dtype, "local_files_only": True, "trust_remote_code": False, **placement}
    try:
        if not labels:
            return AutoModelForCausalLM.from_pretrained(directory, **common)
        names = dict(enumerate(labels))
        ids = {label: index for index, label in names.items()}
        return AutoModelForSequenceClassification.from_pretrained(directory, id2label=names, label2id=ids, **common)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise ServiceError("BASE_MODEL_UNUSABLE", f"the base model {directory.name} cannot be loaded: {error}") from error


def _placement(config: TrainConfig, device: torch.device) -> dict[str, Any]:
    """What from_pretrained is told of base weights in 4 bits (NormalFloat with its scales quantised too, as in the QLoRA paper,
    arXiv 2305.14314); they cannot be moved afterwards."""
    if config.tuning != "qlora":
        return {}
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=frozen_dtype(config),
    )
    return {"quantization_config": quantization, "device_map": {"": device}}


def _keep_scales(base: Any) -> None:
    # On processors with bf16, bitsandbytes would lay weights out anew at the first evaluation, for good: with coarser scales, and
    # not for every shape.
    for module in base.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def has_plain_logits(base: Any) -> bool:
    """Whether the family is known to leave its logits as the output head gives them: asking takes a quarter of a second."""
    return f"{type(base).__module__}.{type(base).__qualname__}" in _PLAIN


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


def add_adapter(base: Any, lora: Lora, task_type: str) -> PeftModel:
    """Freeze `base` and put a fresh adapter into it; with task type SEQ_CLS the head is trained, too.

    Raises ServiceError INVALID_FIELD when it lacks the target modules, or has fewer layers than are to be tuned.
    """
    names, layers = adapted_modules(base, lora), tuned_layers(base.config, lora)
    adapter = LoraConfig(
        task_type=task_type,
        r=lora.rank,
        # peft writes whole numbers as whole numbers; readers of other languages expect that.
        lora_alpha=int(lora.alpha) if lora.alpha.is_integer() else lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=names,
        layers_to_transform=layers,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
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
