"""Adapters beside each other in one model: what one of them does to the others, above all when it does not load."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from engine_rows import alone
from lean_engines import BASE, LONG, MODELS, asked, lean, stock, write_adapter
from peft.tuners.lora import LoraLayer

from services.common.errors import ServiceError
from services.inference.transformers_engine import TransformersEngine

GOOD, BAD = "artifacts/good", "artifacts/bad"
ENGINES = {"lean": lean, "stock": stock}


@pytest.fixture
def model() -> object:
    return MODELS["qwen2"]()


@pytest.fixture(params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest, model: object) -> TransformersEngine:
    return ENGINES[request.param](model)


def answer(engine: TransformersEngine, adapter: str | None = None) -> list[int]:
    return alone(engine, asked(LONG[:20], 6, adapter))


def for_modules(directory: Path, names: list[str]) -> Path:
    """The adapter with other target modules in its configuration."""
    file = directory / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"target_modules": names}))
    return directory


def without_weights(directory: Path) -> Path:
    """The adapter with a file of weights that is cut off."""
    (directory / "adapter_model.safetensors").write_bytes(b"\x05")
    return directory


DAMAGES: dict[str, Callable[[Path], Path]] = {
    "a module that can have no LoRA": lambda directory: for_modules(directory, ["q_proj", "act_fn"]),
    "a module that is not there": lambda directory: for_modules(directory, ["nothing"]),
    "more modules than weights": lambda directory: for_modules(directory, ["q_proj", "up_proj"]),
    "no weights": without_weights,
}


@pytest.mark.parametrize("is_beside", [False, True], ids=["alone", "beside another"])
def test_what_does_not_load_leaves_the_base_model_and_other_adapters_as_they_were(
    engine: TransformersEngine, model: object, tmp_path: Path, is_beside: bool
) -> None:
    if is_beside:
        engine.load_adapter(BASE, GOOD, write_adapter(model, tmp_path / "good", target_modules=["v_proj"], use_dora=True))
    asked_for = (None, GOOD) if is_beside else (None,)
    before = [answer(engine, each) for each in asked_for]
    for name, damage in DAMAGES.items():
        broken = damage(write_adapter(model, tmp_path / name, seed=2, target_modules=["q_proj"], use_dora=True))
        with pytest.raises(ServiceError) as refused:
            engine.load_adapter(BASE, BAD, broken)
        assert refused.value.reason == "ARTIFACT_UNUSABLE"
        assert [answer(engine, each) for each in asked_for] == before, name
    engine.unload(GOOD)
    assert not any(isinstance(module, LoraLayer) for module in engine._batches[BASE].network.model.modules())
    engine.load_adapter(BASE, BAD, write_adapter(model, tmp_path / "mended", seed=2, use_dora=True))
    assert answer(engine, BAD) != before[0]


@pytest.mark.parametrize("config", [{}, {"use_dora": True}], ids=["plain", "dora"])
def test_versions_of_models_whose_names_differ_in_a_dot_are_two(
    engine: TransformersEngine, model: object, tmp_path: Path, config: dict
) -> None:
    names = ("models/my.bot/versions/1", "models/my-bot/versions/1")
    before = []
    for seed, name in enumerate(names):
        engine.load_adapter(BASE, name, write_adapter(model, tmp_path / str(seed), seed=seed, **config))
        before.append(answer(engine, name))
    assert [answer(engine, name) for name in names] == before
    assert before[0] != before[1]
    engine.unload(names[0])
    assert answer(engine, names[1]) == before[1]
