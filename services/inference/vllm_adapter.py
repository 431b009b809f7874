"""Which adapters vLLM can serve; used by the vLLM engine."""

import json
import pathlib

MAX_RANK = 64
"""Room of this rank is set aside for every adapter that may be in a batch."""


def check_adapter(directory: pathlib.Path) -> None:
    """Raises ValueError with what vLLM cannot do with an adapter in peft's layout, and OSError."""
    # Without this file vLLM would unpickle another one.
    if not (directory / "adapter_model.safetensors").is_file():
        raise ValueError("it has no adapter_model.safetensors")
    config = json.loads((directory / "adapter_config.json").read_text(encoding="utf-8"))
    if config.get("peft_type") != "LORA":
        raise ValueError(f"its type is {config.get('peft_type')}, expected LORA")
    if config.get("task_type") == "SEQ_CLS":
        raise ValueError("it tells labels apart and cannot chat")
    if config.get("use_dora"):
        raise ValueError("vLLM cannot compute DoRA; merge the adapter (`tunesmith artifact export --format merged`)")
    if config.get("modules_to_save") or config.get("bias", "none") != "none" or config.get("trainable_token_indices"):
        raise ValueError("it changes more than its LoRA weights, expected no modules_to_save, bias or trainable_token_indices")
    ranks = [config.get("r", 0), *(config.get("rank_pattern") or {}).values()]
    if max(ranks) > MAX_RANK:
        raise ValueError(f"its rank is {max(ranks)}, with vLLM at most {MAX_RANK}")
