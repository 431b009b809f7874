"""What a run computes in: the wish, or what the device does well."""

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from training_configs import config_json  # noqa: E402

from services.common.errors import ServiceError  # noqa: E402  # after the skip
from services.trainer.training.config import Hyperparameters, Lora, TrainConfig, parse_config  # noqa: E402
from services.trainer.training.precision import with_precision  # noqa: E402

LORA = Lora(8, 16.0, 0.0, ("all-linear",), False)
NUMBERS = Hyperparameters(
    1.0, None, 1e-3, 8, 8, 1, "cosine", 0.0, None, 0.0, 1.0, 64, 1, 1, None, None, None, 2, None, 1, 0, LORA
)
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
    assert parse_config(config_json(precision=None)).hyperparameters.precision is None
