"""Packed weights write what the others write."""

import dataclasses
import weakref
from pathlib import Path

import pytest
import torch
from engine_rows import first_written, together
from inference_fakes import ARTIFACT, OTHER_ARTIFACT
from peft_reference import greedy, write_adapter
from transformers import AutoModelForCausalLM

from services.inference import packing, transformers_engine
from services.inference.engine import GenerationRequest, Sampling
from services.inference.lean import LeanNetwork
from services.inference.packed_weight import Multiply, packed
from services.inference.packing import is_packable, pack
from services.inference.reading import PIECE
from services.inference.transformers_engine import TransformersEngine

pytestmark = pytest.mark.integration

BASE = "baseModels/tiny"


@pytest.fixture(params=["packed", "lean"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether transformers uses the packed weights, as for most families, or the lean forward pass."""
    if request.param == "packed":
        monkeypatch.setattr(transformers_engine, "fits", lambda model: False)
    return str(request.param)


def loaded(base: Path, pack_up_to: int) -> TransformersEngine:
    engine = TransformersEngine(threads=1, pack_up_to=pack_up_to)
    engine.load_base(BASE, base)
    return engine


def is_packed(engine: TransformersEngine) -> bool:
    network = engine._batches[BASE].network
    layers = [layer for layer in network.model.modules() if type(layer) is torch.nn.Linear]
    return type(network) is LeanNetwork or all("forward" in vars(layer) for layer in layers)


def test_rows_of_base_and_adapters_get_what_forward_passes_without_cache_give(
    base_directory: Path, adapter_directory: Path, tmp_path: Path, kind: str
) -> None:
    engine = loaded(base_directory, 2**30)
    assert is_packed(engine)
    dora = write_adapter(base_directory, tmp_path / "dora", seed=4, target_modules="all-linear", use_dora=True)
    engine.load_adapter(BASE, ARTIFACT, adapter_directory)
    engine.load_adapter(BASE, OTHER_ARTIFACT, dora)
    directories = {None: None, ARTIFACT: adapter_directory, OTHER_ARTIFACT: dora}
    requests = [
        GenerationRequest(BASE, adapter, tuple(range(5 + length, 5 + 2 * length)), 12)
        for adapter, length in ((None, 3), (ARTIFACT, 40), (OTHER_ARTIFACT, 5), (ARTIFACT, 1), (None, 90))
    ]
    expected = [greedy(base_directory, directories[request.adapter], request.prompt, 12) for request in requests]
    for stagger in (0, 2):
        assert together(engine, requests, stagger=stagger) == expected


def test_a_seed_writes_the_same_with_one_row_and_with_several(base_directory: Path, kind: str) -> None:
    request = GenerationRequest(BASE, None, (10, 11, 12), 30, Sampling(1.0, 0.9, 3))
    others = [dataclasses.replace(request, sampling=Sampling(1.0, 1.0, seed)) for seed in range(3)]
    engine = loaded(base_directory, 2**30)
    (alone,) = together(engine, [request])
    assert together(engine, [request, *others], stagger=1)[0] == alone
    assert together(loaded(base_directory, 0), [request])[0] == alone


def test_a_model_beyond_the_limit_and_one_in_another_precision_are_left_as_they_are(base_directory: Path) -> None:
    weights = 27_136 * 4
    assert is_packed(loaded(base_directory, weights))
    engine = loaded(base_directory, weights - 1)
    assert not is_packed(engine)
    model = engine._batches[BASE].network.model
    assert is_packable(model)
    assert not is_packable(model.to(torch.bfloat16))


def test_an_unloaded_model_gives_its_weights_back_at_once(base_directory: Path, adapter_directory: Path, kind: str) -> None:
    engine = loaded(base_directory, 2**30)
    engine.load_adapter(BASE, ARTIFACT, adapter_directory)
    weights = weakref.ref(engine._batches[BASE].network.model.get_output_embeddings().weight)
    engine.unload(BASE)
    assert weights() is None


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every product with weights that are packed from now on."""
    found: list[int] = []

    def counted(*weight: object, **precision: bool) -> Multiply:
        multiply = packed(*weight, **precision)
        return lambda x: found.append(x.numel() // x.shape[-1]) or multiply(x)

    monkeypatch.setattr(packing, "packed", counted)
    return found


def test_a_prompt_is_read_with_packed_weights_up_to_a_piece(base_directory: Path, products: list[int], kind: str) -> None:
    together(loaded(base_directory, 2**30), [GenerationRequest(BASE, None, tuple(range(1, 200)), 1)])
    # The head is asked for the last position alone.
    assert set(products) == {PIECE, 199 - PIECE, 1}


@pytest.mark.parametrize("beside", [2, 8, 128])
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16"])
def test_a_row_gets_the_same_digits_whatever_is_beside_it(base_directory: Path, half: bool, beside: int) -> None:
    mlp = AutoModelForCausalLM.from_pretrained(base_directory, dtype=torch.float32).model.layers[0].mlp
    pack(mlp, half=half)
    rows = torch.randn(beside, mlp.hidden_size)
    with torch.inference_mode():
        assert torch.equal(mlp.gate_proj(rows)[:1], mlp.gate_proj(rows[:1]))
        assert torch.equal(mlp(rows)[:1], mlp(rows[:1]))


class Siblings(torch.nn.Module):
    """Two layers that a model gives the same input, and what else they may be given."""

    def __init__(self, *, biases: tuple[bool, bool] = (True, True)) -> None:
        super().__init__()
        self.gate_proj = torch.nn.Linear(8, 24, bias=biases[0])
        self.up_proj = torch.nn.Linear(8, 16, bias=biases[1])

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.gate_proj(first), self.up_proj(second)


@torch.inference_mode()
@pytest.mark.parametrize("biases", [(True, True), (False, False), (True, False)], ids=str)
def test_layers_with_one_input_are_one_product(products: list[int], biases: tuple[bool, bool]) -> None:
    module = Siblings(biases=biases)
    x, y = torch.randn(3, 8), torch.randn(2, 8)
    expected = [module(x, x), module(x, y), module(y, y)]
    pack(module)
    for (first, second), known in zip(((x, x), (x, y), (y, y)), expected, strict=True):
        for found, right in zip(module(first, second), known, strict=True):
            torch.testing.assert_close(found, right)
    assert products == ([3, 3, 3, 2, 2, 2] if biases == (True, False) else [3, 3, 2, 2])


@torch.inference_mode()
def test_an_input_that_comes_again_with_other_numbers_is_computed_again() -> None:
    module = Siblings()
    pack(module)
    x = torch.randn(1, 8)
    module(x, x)
    before = module(x, x)[1].clone()
    x += 1
    assert not torch.equal(module(x, x)[1], before)


@torch.inference_mode()
def test_what_a_layer_gives_may_be_changed_in_place() -> None:
    # As an adapter does, with the result of one layer, before the next one is asked.
    module = Siblings()
    x = torch.randn(3, 1, 8)
    expected = module.up_proj(x)
    pack(module)
    gate = module.gate_proj(x)
    gate.view(-1, 24).add_(1)
    torch.testing.assert_close(module.up_proj(x), expected)


def test_half_the_precision_is_close_and_the_adapters_keep_theirs(
    base_directory: Path, adapter_directory: Path, kind: str
) -> None:
    half, whole = TransformersEngine(threads=1, pack_up_to=2**30, half=True), loaded(base_directory, 0)
    half.load_base(BASE, base_directory)
    assert is_packed(half)
    for engine in (half, whole):
        engine.load_adapter(BASE, ARTIFACT, adapter_directory)
    for adapter in (None, ARTIFACT):
        request = GenerationRequest(BASE, adapter, tuple(range(5, 45)), 1, logprobs=0, judged_from=1)
        found, expected = ([each.logprob for each in first_written(engine, request).prompt] for engine in (half, whole))
        assert found != expected
        assert found == pytest.approx(expected, abs=0.3)
    model = half._batches[BASE].network.model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
