"""What both copies of a base model weigh, and that the engine keeps them in so many bytes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from services.common.errors import ServiceError
from services.inference.packed_weight import fits_into_float16
from services.inference.packing_bytes import MOST_OUTPUTS, Packing

ALL = 10**9


def written(directory: Path, *tensors: torch.Tensor) -> Path:
    save_file({str(number): tensor for number, tensor in enumerate(tensors)}, directory / "model.safetensors")
    return directory


def zeros(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "packing", "width"),
    [
        (torch.float32, Packing(ALL, has_fp16=True), 4 + 4),
        (torch.bfloat16, Packing(ALL, has_fp16=True), 4 + 2),
        (torch.float16, Packing(ALL, has_fp16=True), 4 + 2),
        (torch.bfloat16, Packing(ALL, has_fp16=False), 4 + 4),
        (torch.float32, Packing(ALL, half=True, has_fp16=False), 4 + 2),
        (torch.bfloat16, Packing(79, has_fp16=True), 4),
        (torch.bfloat16, Packing(80, has_fp16=True), 4 + 2),
        (torch.bfloat16, Packing(), 4),
    ],
)
def test_the_second_copy_has_half_the_bytes_where_16_bits_are_enough(
    dtype: torch.dtype, packing: Packing, width: int, tmp_path: Path
) -> None:
    written(tmp_path, zeros(4, 4, dtype=dtype), zeros(4, dtype=dtype))
    assert packing.memory_bytes(tmp_path) == 20 * width


def test_an_output_head_and_what_may_be_as_many_rows_with_two_others_count_as_32_bits(tmp_path: Path) -> None:
    rows = (MOST_OUTPUTS // 3, MOST_OUTPUTS // 3 + 1)
    written(tmp_path, *(zeros(each, 1, dtype=torch.bfloat16) for each in rows))
    assert Packing(ALL, has_fp16=True).memory_bytes(tmp_path) == rows[0] * 6 + rows[1] * 8


@pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="this processor packs in fp32 alone")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_counts_as_16_bits_is_packed_as_16_bits(dtype: torch.dtype) -> None:
    weights = torch.randn(64, 64, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert Packing().has_fp16
    assert fits_into_float16(weights.float())


def test_what_is_no_model_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x05")
    with pytest.raises(ServiceError) as refused:
        Packing(ALL).memory_bytes(tmp_path)
    assert refused.value.reason == "BASE_MODEL_UNUSABLE"
