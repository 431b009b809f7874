"""What a run computes in: the wish, or what the device does well."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from services.common.errors import ServiceError  # noqa: E402  # after the skip
from services.trainer.training.config import Hyperparameters, Lora, TrainConfig, parse_config  # noqa: E402
from services.trainer.training.precision import with_precision  # noqa: E402

LORA = Lora(8, 16.0, 0.0, ("all-linear",), False)
NUMBERS = Hyperparameters(1.0, None, 1e-3, 8, 8, 1, "cosine", 0.0, None, 0.0, 1.0, 64, 1, 1, None, None, 1, 0, LORA)
CONFIG = TrainConfig("runs/x-1", "baseModels/m", Path("m"), Path("t"), None, Path("o"), "sft", "lora", NUMBERS)
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def resolved(wish: str | None, device: torch.device) -> str | None:
    return with_precision(replace(CONFIG, hyperparameters=replace(NUMBERS, precision=wish)), device).hyperparameters.precision


@pytest.fixture
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: request.param)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old GPU")


def test_a_processor_computes_in_fp32_unless_told_otherwise() -> None:
    assert resolved(None, CPU) == "fp32"
    assert resolved("bf16", CPU) == "bf16"


@pytest.mark.parametrize(("gpu", "expected"), [(True, "bf16"), (False, "fp32")], indirect=["gpu"])
def test_a_gpu_computes_in_bf16_where_it_can(gpu: None, expected: str) -> None:
    assert resolved(None, GPU) == expected
    assert resolved("fp32", GPU) == "fp32"


@pytest.mark.parametrize("gpu", [False], indirect=True)
def test_a_wish_the_gpu_cannot_fulfil_is_refused_by_name(gpu: None) -> None:
    with pytest.raises(ServiceError, match="Old GPU") as caught:
        resolved("bf16", GPU)
    assert caught.value.reason == "PRECISION_UNSUPPORTED"


def test_a_configuration_may_leave_the_precision_open() -> None:
    document = {
        "run": "runs/x-1", "base_model": "baseModels/m", "base_model_dir": "m", "train_file": "t", "validation_file": None, "output_dir": "o",
        "method": "sft", "tuning": "lora",
        "hyperparameters": {
            "num_train_epochs": 1.0, "max_steps": None, "learning_rate": 1e-3, "global_batch_size": 8,
            "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "lr_scheduler_type": "cosine", "warmup_ratio": 0.0,
            "warmup_steps": None, "weight_decay": 0.0, "max_grad_norm": 1.0, "max_seq_length": 64, "seed": 1, "logging_steps": 1,
            "eval_steps": None, "precision": None, "num_processes": 1, "zero_stage": 0,
            "lora": {"rank": 8, "alpha": 16.0, "dropout": 0.0, "target_modules": ["all-linear"], "use_rslora": False},
        },
    }  # fmt: skip
    assert parse_config(json.loads(json.dumps(document))) == CONFIG
