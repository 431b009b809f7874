"""A valid configuration of the training process, and how to vary it; shared by the tests of training."""

from typing import Any

from services.trainer.training.config import Hyperparameters, TrainConfig, parse_config

LORA = {
    "rank": 4,
    "alpha": 8.0,
    "dropout": 0.0,
    "target_modules": ["all-linear"],
    "use_rslora": False,
    "use_dora": False,
    "last_layers": 0,
}
PREFERENCE = {
    "beta": 0.1,
    "label_smoothing": None,
    "reference_free": None,
    "sft_loss_weight": None,
    "desirable_weight": None,
    "undesirable_weight": None,
}
HYPERPARAMETERS = {
    "num_train_epochs": 1.0,
    "max_steps": None,
    "learning_rate": 0.01,
    "global_batch_size": 8,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.0,
    "warmup_steps": None,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "max_seq_length": 512,
    "seed": 42,
    "logging_steps": 1,
    "eval_steps": None,
    "save_steps": None,
    "save_interval_seconds": None,
    "save_total_limit": 2,
    "precision": "fp32",
    "num_processes": 1,
    "zero_stage": 0,
    "deepspeed_overrides": None,
    "non_finite_policy": "fail",
    "max_skipped_batches": 3,
    "rehearsal": "auto",
    "packing": True,
    "stall_policy": "warn",
    "early_stopping_patience": None,
    "early_stopping_min_delta": None,
    "time_limit_seconds": None,
}
PATHS = {
    "run": "runs/7b0c-1",
    "base_model": "baseModels/tiny",
    "base_model_dir": "models/tiny",
    "train_file": "train.jsonl",
    "validation_file": None,
    "output_dir": "run/output",
    "initial_weights": None,
    "sample_prompts": None,
    "method": "sft",
    "tuning": "lora",
}


def config_json(
    *,
    lora: dict[str, Any] | None = None,
    preference: dict[str, Any] | None = None,
    paths: dict[str, Any] | None = None,
    **hyperparameters: Any,
) -> dict[str, Any]:
    """CONFIG.json as a dict; keyword arguments replace hyperparameters. `preference` is there when the method needs it."""
    paths = paths or {}
    wants_preference = preference is not None or paths.get("method") in ("dpo", "kto", "orpo")
    groups = {
        "lora": LORA | (lora or {}) if paths.get("tuning", "lora") != "full" else None,
        "preference": PREFERENCE | (preference or {}) if wants_preference else None,
    }
    numbers = HYPERPARAMETERS | hyperparameters | groups
    return PATHS | paths | {"hyperparameters": numbers}


def config(**changes: Any) -> TrainConfig:
    return parse_config(config_json(**changes))


def numbers(**changes: Any) -> Hyperparameters:
    return config(**changes).hyperparameters
