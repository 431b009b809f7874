"""What a run computes in: the wish, or what the device does well."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from training_configs import config, config_json  # noqa: E402

from services.common.errors import ServiceError  # noqa: E402  # after the skip
from services.trainer.training.config import parse_config  # noqa: E402
from services.trainer.training.precision import with_precision  # noqa: E402

CONFIG = config()
NUMBERS = CONFIG.hyperparameters
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def resolved(wish: str | None, device: torch.device) -> str | None:
    return with_precision(replace(CONFIG, hyperparameters=replace(NUMBERS, precision=wish)), device).hyperparameters.precision


@pytest.fixture
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    has_bf16, capability = request.param
    # What it only imitates does not count.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: has_bf16 or including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old GPU")


def test_a_processor_computes_in_fp32_unless_told_otherwise() -> None:
    assert resolved(None, CPU) == "fp32"
    assert resolved("bf16", CPU) == "bf16"
    assert resolved("fp16", CPU) == "fp16"


@pytest.mark.parametrize(
    ("gpu", "expected"),
    [((True, (8, 0)), "bf16"), ((False, (7, 5)), "fp16"), ((False, (7, 0)), "fp16"), ((False, (6, 1)), "fp32")],
    indirect=["gpu"],
)
def test_a_gpu_computes_in_what_it_does_well(gpu: None, expected: str) -> None:
    assert resolved(None, GPU) == expected
    assert resolved("fp32", GPU) == "fp32"
    assert resolved("fp16", GPU) == "fp16"


@pytest.mark.parametrize("gpu", [(False, (7, 5))], indirect=True)
def test_a_wish_the_gpu_cannot_fulfil_is_refused_by_name(gpu: None) -> None:
    with pytest.raises(ServiceError, match="Old GPU") as caught:
        resolved("bf16", GPU)
    assert caught.value.reason == "PRECISION_UNSUPPORTED"


def test_a_configuration_may_leave_the_precision_open() -> None:
    assert parse_config(config_json(precision=None)).hyperparameters.precision is None
