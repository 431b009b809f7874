"""Products are products, whichever library computes them."""

import pytest
import torch

from services.trainer.training.fast import products

SHAPES = [(1, 8, 8), (5, 16, 48), (40, 48, 16), (0, 8, 8)]


@pytest.fixture(params=[torch.float32, torch.float64], ids=["fp32", "fp64"])
def dtype(request):
    return request.param


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("turned", [False, True])
def test_a_large_weight_from_either_side(shape, turned, dtype):
    rows, inner, columns = shape
    x = torch.randn(rows, inner, dtype=dtype)
    weight = torch.randn(columns, inner, dtype=dtype).T if turned else torch.randn(inner, columns, dtype=dtype)
    torch.testing.assert_close(products.times(x, weight), x @ weight, rtol=1e-5, atol=1e-5)


def test_without_onednn_too(monkeypatch):
    monkeypatch.setattr(products, "_HAS_ONEDNN", False)
    x, weight = torch.randn(3, 4), torch.randn(4, 5)
    assert torch.equal(products.times(x, weight), x @ weight)


def test_narrow_matrices(dtype):
    x, down, up = (torch.randn(*shape, dtype=dtype) for shape in ((7, 16), (16, 3), (3, 20)))
    narrow = products.narrowed(x, down)
    torch.testing.assert_close(narrow, x @ down)
    torch.testing.assert_close(products.outer(narrow, x), (x.T @ narrow).T)
    result = torch.ones(7, 20, dtype=dtype)
    assert products.add_widened_(result, narrow, up, 0.5) is result
    torch.testing.assert_close(result, 1 + 0.5 * narrow @ up)
