"""Adapters that were made elsewhere: their numbers, and what about them no training here can continue; pure rules."""

from collections.abc import Mapping
from typing import Any

from services.task_manager.domain.hyperparameters import Hyperparameters, Lora
from services.task_manager.domain.limits import violations

# Fields of peft's LoraConfig that give an adapter another form than the one that is trained here.
_OTHER_FORMS = (
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "layers_to_transform",
    "layer_replication",
    "exclude_modules",
    "target_parameters",
    "trainable_token_indices",
    "lora_bias",
    "use_qalora",
)


def lora_of(config: Mapping[str, Any]) -> Lora:
    """The numbers in an adapter_config.json; None or empty where it has none of the right type."""
    rank, alpha, modules = config.get("r"), config.get("lora_alpha"), config.get("target_modules")
    names = modules if isinstance(modules, list) and all(isinstance(name, str) for name in modules) else []
    return Lora(
        rank=rank if isinstance(rank, int) and not isinstance(rank, bool) else None,
        alpha=float(alpha) if isinstance(alpha, int | float) and not isinstance(alpha, bool) else None,
        target_modules=("all-linear",) if modules == "all-linear" else tuple(sorted(names)),
        use_rslora=config.get("use_rslora") is True,
        use_dora=config.get("use_dora") is True,
        last_layers=0,
    )


def obstacle(config: Mapping[str, Any], lora: Lora) -> str:
    """Why no training can continue the adapter, empty = nothing."""
    if others := [name for name in _OTHER_FORMS if config.get(name)]:
        return f"its adapter_config.json has {', '.join(others)}, which training does not continue"
    if config.get("bias", "none") != "none":
        return "it trains biases, which training does not continue"
    if None in (lora.rank, lora.alpha) or not lora.target_modules:
        return "its adapter_config.json lacks r, lora_alpha or a list of target_modules"
    wrong = next(iter(violations(Hyperparameters(lora=lora), "adapter_config.json")), None)
    return f"{wrong.field} {wrong.description}" if wrong else ""
