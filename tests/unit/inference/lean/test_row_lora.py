"""Adapters of modules that are computed side by side, row by row, against peft."""

import copy

import pytest
import torch
from lean_engines import MODELS
from peft import LoraConfig, PeftModel, get_peft_model

from services.inference.row_lora import RowLora

NAMES = ("q_proj", "k_proj", "v_proj")
CONFIGS = {
    "all": {"r": 3},
    "some": {"target_modules": ["k_proj"], "r": 2, "use_rslora": True},
    "dora": {"use_dora": True, "target_modules": ["q_proj", "v_proj"]},
    "own-bias": {"lora_bias": True, "target_modules": ["v_proj"]},
}
ROUTES = [None, "all", "some", "dora", "own-bias", "all", None]


@pytest.fixture(scope="module")
def tuned() -> PeftModel:
    torch.manual_seed(2)
    configs = {
        name: LoraConfig(**{"target_modules": list(NAMES), "task_type": "CAUSAL_LM", **config})
        for name, config in CONFIGS.items()
    }
    model = get_peft_model(MODELS["qwen2"](), configs["all"], adapter_name="all")
    for name in ("some", "dora", "own-bias"):
        model.add_adapter(name, configs[name])
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval().requires_grad_(False)


def expected(model: PeftModel, x: torch.Tensor, route: str | None) -> torch.Tensor:
    """What peft alone computes, with one adapter for all rows."""
    attention = model.get_base_model().model.layers[0].self_attn
    if route is None:
        return torch.cat([getattr(attention, name).base_layer(x) for name in NAMES], dim=1)
    model.set_adapter(route)
    return torch.cat([getattr(attention, name)(x) for name in NAMES], dim=1)


def side_by_side(model: PeftModel, x: torch.Tensor, routes: list[str | None]) -> torch.Tensor:
    attention = model.get_base_model().model.layers[0].self_attn
    lora = RowLora()
    lora.route(routes)
    result = torch.cat([getattr(attention, name).base_layer(x) for name in NAMES], dim=1)
    if lora.is_used:
        lora.apply_(result, x, tuple(getattr(attention, name) for name in NAMES))
    return result


@torch.inference_mode()
@pytest.mark.parametrize(
    "routes",
    [ROUTES, ["all"] * 4, [None] * 3, [None, "dora"], ["own-bias", "some"]],
    ids=["mixed", "one", "none", "dora", "without-dora"],
)
def test_every_row_gets_its_own_adapter_of_every_module(tuned: PeftModel, routes: list[str | None]) -> None:
    x = torch.randn(len(routes), 48)
    found = side_by_side(copy.deepcopy(tuned), x, routes)
    for row, route in enumerate(routes):
        here = slice(row, row + 1)
        torch.testing.assert_close(found[here], expected(tuned, x[here], route), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_what_overflows_in_an_adapter_does_not_reach_rows_that_have_another(tuned: PeftModel) -> None:
    model = copy.deepcopy(tuned)
    x = torch.randn(3, 48)
    before = side_by_side(model, x, ["all", "some", None])
    for name, parameter in model.named_parameters():
        if "lora_A.all" in name:
            parameter.mul_(3e38)
    found = side_by_side(model, x, ["all", "some", None])
    assert not bool(found[0].isfinite().all())
    assert torch.equal(found[1:], before[1:])


def test_it_is_used_only_while_a_row_has_an_adapter() -> None:
    lora = RowLora()
    assert not lora.is_used
    lora.route([None, "some"])
    assert lora.is_used
    lora.route([None, None])
    assert not lora.is_used
