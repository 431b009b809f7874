"""Weights that are multiplied in another order and precision: what they lose, and that every row is alone."""

import pytest
import torch

from services.inference.packed_weight import fits_into_float16, packed

OUTPUTS = 40
KINDS = {"fp16": (torch.float16, False), "fp32": (torch.float32, False), "bfloat16": (torch.float32, True)}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(5)


def weight(inputs: int, precision: torch.dtype = torch.float32) -> torch.Tensor:
    """As a file with this precision has it, in fp32."""
    return (torch.randn(OUTPUTS, inputs) * inputs**-0.5).to(precision).float()


def exactly(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    product = x.double() @ w.double().T
    return product if bias is None else product + bias.double()


@pytest.mark.parametrize("bias", [None, torch.linspace(-3, 3, OUTPUTS)], ids=["plain", "bias"])
@pytest.mark.parametrize("rows", [1, 2, 8, 33, 200])
@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float32])
def test_the_product_is_as_exact_as_fp32_whatever_precision_the_file_had(
    precision: torch.dtype, rows: int, bias: torch.Tensor | None
) -> None:
    w, x = weight(576, precision), torch.randn(rows, 576)
    found = packed(w, bias, half=False)(x)
    assert found.dtype is torch.float32
    # What fp32 rounds in 576 sums; inputs in bfloat16 would change it by a thousandth.
    assert (found - exactly(x, w, bias)).abs().max() < 8e-6


@pytest.mark.parametrize("inputs", [48, 576, 1536, 2048])
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_gets_the_same_digits_alone_and_beside_others(kind: str, inputs: int) -> None:
    precision, half = KINDS[kind]
    multiply = packed(weight(inputs, precision), torch.randn(OUTPUTS), half=half)
    x = torch.randn(200, inputs)
    with torch.inference_mode():
        alone = torch.cat([multiply(row) for row in x[:9].split(1)])
        for rows in (9, 128, 200):
            assert torch.equal(multiply(x[:rows])[:9], alone)
        assert torch.equal(multiply(x[None, :1]), alone[None, :1])
        assert torch.equal(multiply(x.T.contiguous().T)[:9], alone)


def test_half_the_precision_rounds() -> None:
    w, x = weight(576, torch.float16), torch.randn(8, 576)
    found = packed(w, None, half=True)(x)
    assert found.dtype is torch.float32
    assert 1e-4 < (found - exactly(x, w, None)).abs().max() < 0.05


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_what_a_file_had_in_half_the_bytes_is_kept_in_half_the_bytes(precision: torch.dtype) -> None:
    assert fits_into_float16(weight(576, precision))


def test_a_head_whose_packing_would_take_seconds_is_kept_in_fp32() -> None:
    assert fits_into_float16(torch.ones(16_384, 2))
    assert not fits_into_float16(torch.ones(16_385, 2))


def test_what_bfloat16_loses_next_to_nothing_of_may_be_lost() -> None:
    tiny = torch.full((1, 4), 1.0078125 * 2.0**-20).bfloat16().float()
    assert not torch.equal(tiny.half().float(), tiny)
    assert fits_into_float16(tiny)


@pytest.mark.parametrize("number", [0.1, 1 + 2.0**-11, 70_000.0, -1e30, float("inf"), float("nan")])
def test_one_number_that_would_change_keeps_all_in_fp32(number: float) -> None:
    w = weight(576, torch.float16)
    w[3, 5] = number
    assert not fits_into_float16(w)


def test_a_processor_that_cannot_multiply_by_fp16_computes_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    w, x = weight(576, torch.float16), torch.randn(3, 576)
    monkeypatch.setattr(type(torch.backends.quantized), "supported_engines", ["qnnpack"])
    assert not fits_into_float16(w)
    torch.testing.assert_close(packed(w, None, half=False)(x), torch.nn.functional.linear(x, w))
