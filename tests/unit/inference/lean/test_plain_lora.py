"""Which adapters are read without peft, as what, and that they leave the model as it is; what they answer is in test_equality."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from engine_rows import alone, first_written
from lean_engines import BASE, LONG, MODELS, asked, lean, stock, write_adapter
from peft import LoraConfig, PeftConfig, PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

from services.common.errors import ServiceError
from services.inference.packing import pack
from services.inference.plain_lora import read_plain
from services.inference.transformers_engine import TransformersEngine

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ADAPTER = "artifacts/plain"


@pytest.fixture
def model() -> object:
    return MODELS["qwen2"]()


def layers_of(model: object) -> dict[str, object]:
    """All linear layers but the head, by path."""
    return {path: each for path, each in model.named_modules() if type(each) is torch.nn.Linear and path != "lm_head"}


def config_of(directory: Path) -> LoraConfig:
    config = PeftConfig.from_pretrained(str(directory))
    assert isinstance(config, LoraConfig)
    return config


def changed(directory: Path, change: object) -> None:
    """Has `change` applied to the tensors in the file."""
    file = directory / "adapter_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


@pytest.mark.parametrize("use_rslora", [False, True])
def test_matrices_are_those_of_the_file_with_their_scaling(model: object, tmp_path: Path, use_rslora: bool) -> None:
    write_adapter(model, tmp_path, seed=1, r=4, lora_alpha=6, target_modules=list(ATTENTION), use_rslora=use_rslora)
    layers = layers_of(model)
    found = read_plain(tmp_path, config_of(tmp_path), layers)
    stored = load_file(tmp_path / "adapter_model.safetensors")
    paths = {path for path in layers if path.rpartition(".")[2] in ATTENTION}
    assert set(found) == {layers[path] for path in paths}
    for path in paths:
        a, b = (stored[f"base_model.model.{path}.lora_{name}.weight"] for name in "AB")
        assert torch.equal(found[layers[path]].a, a)
        torch.testing.assert_close(found[layers[path]].b, b.T * (6 / 2 if use_rslora else 6 / 4))


def test_matrices_of_16_bits_are_computed_with_in_32(model: object, tmp_path: Path) -> None:
    write_adapter(model, tmp_path, seed=1, target_modules=["q_proj"])
    changed(tmp_path, lambda tensors: tensors.update({name: value.bfloat16() for name, value in tensors.items()}))
    found = read_plain(tmp_path, config_of(tmp_path), layers_of(model))
    assert {each.dtype for matrices in found.values() for each in matrices} == {torch.float32}


@pytest.mark.parametrize(
    "config",
    [
        {"use_dora": True},
        {"lora_bias": True},
        {"rank_pattern": {"q_proj": 2}},
        {"alpha_pattern": {"q_proj": 2}},
        {"layers_to_transform": [1]},
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": r".*\.q_proj"},
        {"exclude_modules": ["k_proj"], "target_modules": ["q_proj", "k_proj"]},
    ],
    ids=lambda config: next(iter(config)),
)
def test_what_is_more_than_matrices_is_left_to_peft(model: object, tmp_path: Path, config: dict) -> None:
    write_adapter(model, tmp_path, seed=1, **{"target_modules": ["q_proj"], **config})
    assert read_plain(tmp_path, config_of(tmp_path), layers_of(model)) is None


def test_what_may_have_changed_the_base_model_at_its_beginning_is_left_to_peft(model: object, tmp_path: Path) -> None:
    write_adapter(model, tmp_path, seed=1, target_modules=["q_proj"])
    for beginning, is_read in ((True, True), (False, True), ("gaussian", True), ("pissa", False), ("olora", False)):
        document = json.loads((tmp_path / "adapter_config.json").read_text()) | {"init_lora_weights": beginning}
        (tmp_path / "adapter_config.json").write_text(json.dumps(document))
        assert (read_plain(tmp_path, config_of(tmp_path), layers_of(model)) is not None) is is_read


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.popitem(),
        lambda tensors: tensors.update(more=torch.zeros(1)),
        lambda tensors: tensors.update({name: value[:-1].clone() for name, value in tensors.items()}),
        lambda tensors: tensors.update({name: value.to(torch.int8) for name, value in tensors.items()}),
    ],
    ids=["one is missing", "one too many", "another shape", "no fractions"],
)
def test_tensors_that_do_not_fit_are_left_to_peft_to_refuse(model: object, tmp_path: Path, change: object) -> None:
    write_adapter(model, tmp_path, seed=1, target_modules=["q_proj"])
    changed(tmp_path, change)
    assert read_plain(tmp_path, config_of(tmp_path), layers_of(model)) is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused(model: object, tmp_path: Path, bad: float) -> None:
    write_adapter(model, tmp_path, seed=1, target_modules=["q_proj"])
    changed(tmp_path, lambda tensors: next(iter(tensors.values())).view(-1)[3:4].fill_(bad))
    engine = lean(model)
    with pytest.raises(ServiceError, match="not finite") as refused:
        engine.load_adapter(BASE, ADAPTER, tmp_path)
    assert refused.value.reason == "ARTIFACT_UNUSABLE"


@pytest.mark.parametrize("computed", [lean, stock])
def test_the_model_gets_no_modules_and_an_adapter_that_comes_again_is_the_new_one(
    model: object, tmp_path: Path, computed: Callable[[object], TransformersEngine]
) -> None:
    engine = computed(model)
    inside = engine._batches[BASE].network.model
    before = copy.deepcopy(inside.state_dict())
    question = asked(LONG[:20], 6, ADAPTER)
    answers = []
    for seed in (1, 2):
        write_adapter(model, tmp_path / str(seed), seed=seed, target_modules=list(ATTENTION))
        engine.load_adapter(BASE, ADAPTER, tmp_path / str(seed))
        answers.append(alone(engine, question))
        assert not any(isinstance(module, LoraLayer) for module in inside.modules())
        engine.unload(ADAPTER)
    assert answers[0] != answers[1]
    assert inside.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in inside.state_dict().items())


@pytest.mark.parametrize("computed", [lean, stock])
def test_beside_an_adapter_of_peft_and_after_it_the_same_is_answered(
    model: object, tmp_path: Path, computed: Callable[[object], TransformersEngine]
) -> None:
    write_adapter(model, tmp_path / "plain", seed=1, target_modules=list(ATTENTION))
    write_adapter(model, tmp_path / "dora", seed=2, target_modules=list(ATTENTION), use_dora=True)
    engine = computed(model)
    question = asked(LONG[:20], 6, ADAPTER)
    engine.load_adapter(BASE, ADAPTER, tmp_path / "plain")
    first = alone(engine, question)
    engine.load_adapter(BASE, "artifacts/dora", tmp_path / "dora")
    assert alone(engine, question) == first
    assert alone(engine, asked(LONG[:20], 6, "artifacts/dora")) != first
    engine.unload("artifacts/dora")
    assert alone(engine, question) == first


@pytest.mark.parametrize("is_packed", [False, True], ids=["as it is", "packed"])
def test_what_transformers_computes_is_what_peft_makes_of_it(model: object, tmp_path: Path, is_packed: bool) -> None:
    directory = write_adapter(model, tmp_path, seed=1, target_modules=[*ATTENTION, "gate_proj", "up_proj", "down_proj"])
    if is_packed:
        pack(model)
    engine = stock(model)
    engine.load_adapter(BASE, ADAPTER, directory)
    found = first_written(engine, asked(LONG[:50], 1, ADAPTER, logprobs=0, judged_from=1)).prompt
    tuned = PeftModel.from_pretrained(copy.deepcopy(model), str(directory)).eval()
    with torch.inference_mode():
        logprobs = torch.log_softmax(tuned(input_ids=torch.tensor([LONG[:50]])).logits[0], dim=-1)
    assert [token.logprob for token in found] == pytest.approx(
        [float(logprobs[place, token.id]) for place, token in enumerate(found)], abs=5e-5
    )
