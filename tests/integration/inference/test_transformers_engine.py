"""The real engine gives what transformers and peft give alone, whatever else is loaded beside it."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from engine_rows import alone
from inference_fakes import ARTIFACT, OTHER_ARTIFACT
from peft_reference import greedy, write_adapter
from tiny_model import make_tiny_model

from services.common.errors import ServiceError
from services.common.rendering import Renderer
from services.inference.engine import GenerationRequest, Sampling
from services.inference.transformers_engine import TransformersEngine

# peft asks transformers by a name that transformers has given up.
pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")]

BASE = "baseModels/tiny.v1"
COUNT = 24
GREEDY = Sampling()


@pytest.fixture
def engine(base_directory: Path) -> TransformersEngine:
    engine = TransformersEngine(threads=1)
    engine.load_base(BASE, base_directory)
    return engine


@pytest.fixture(scope="module")
def prompt(base_directory: Path) -> list[int]:
    return Renderer.from_directory(base_directory).prompt([{"role": "user", "content": "What is the use?"}])


def tokens(
    engine: TransformersEngine,
    prompt: Sequence[int],
    adapter: str | None = None,
    sampling: Sampling = GREEDY,
    base: str = BASE,
) -> list[int]:
    return alone(engine, GenerationRequest(base, adapter, tuple(prompt), COUNT, sampling))


def test_the_base_model_answers_as_transformers_does(engine: TransformersEngine, base_directory: Path, prompt: list[int]) -> None:
    assert tokens(engine, prompt) == greedy(base_directory, None, prompt, COUNT)


def test_a_classifier_is_refused_as_a_model_and_as_an_adapter(
    engine: TransformersEngine, base_directory: Path, adapter_directory: Path, tmp_path: Path
) -> None:
    model, adapter = tmp_path / "model", tmp_path / "adapter"
    for directory, source, name, change in (
        (model, base_directory, "config.json", {"architectures": ["LlamaForSequenceClassification"]}),
        (adapter, adapter_directory, "adapter_config.json", {"task_type": "SEQ_CLS"}),
    ):
        shutil.copytree(source, directory)
        config = json.loads((directory / name).read_text())
        (directory / name).write_text(json.dumps(config | change))
    with pytest.raises(ServiceError, match="it tells labels apart and cannot chat"):
        engine.load_base(OTHER_ARTIFACT, model)
    with pytest.raises(ServiceError, match="it tells labels apart and cannot chat"):
        engine.load_adapter(BASE, ARTIFACT, adapter)


def test_an_adapter_answers_as_peft_does_and_not_as_the_base_model(
    engine: TransformersEngine, base_directory: Path, adapter_directory: Path, prompt: list[int]
) -> None:
    engine.load_adapter(BASE, ARTIFACT, adapter_directory)
    tuned = tokens(engine, prompt, ARTIFACT)
    assert tuned == greedy(base_directory, adapter_directory, prompt, COUNT)
    assert tuned != tokens(engine, prompt)


def test_the_base_model_answers_the_same_before_beside_and_after_an_adapter(
    engine: TransformersEngine, adapter_directory: Path, prompt: list[int]
) -> None:
    before = tokens(engine, prompt)
    engine.load_adapter(BASE, ARTIFACT, adapter_directory)
    assert tokens(engine, prompt) == before
    tokens(engine, prompt, ARTIFACT)
    assert tokens(engine, prompt) == before
    engine.unload(ARTIFACT)
    assert tokens(engine, prompt) == before


def test_two_adapters_of_different_shapes_share_one_base_model(
    engine: TransformersEngine, base_directory: Path, adapter_directory: Path, other_adapter_directory: Path, prompt: list[int]
) -> None:
    engine.load_adapter(BASE, ARTIFACT, adapter_directory)
    engine.load_adapter(BASE, OTHER_ARTIFACT, other_adapter_directory)
    first, second = (greedy(base_directory, path, prompt, COUNT) for path in (adapter_directory, other_adapter_directory))
    assert first != second
    for _ in range(2):
        assert tokens(engine, prompt, ARTIFACT) == first
        assert tokens(engine, prompt, OTHER_ARTIFACT) == second


@pytest.mark.parametrize("active", [None, ARTIFACT, OTHER_ARTIFACT])
def test_unloading_one_adapter_leaves_the_other_whichever_answered_last(
    engine: TransformersEngine,
    base_directory: Path,
    adapter_directory: Path,
    other_adapter_directory: Path,
    prompt: list[int],
    active: str | None,
) -> None:
    engine.load_adapter(BASE, ARTIFACT, adapter_directory)
    engine.load_adapter(BASE, OTHER_ARTIFACT, other_adapter_directory)
    tokens(engine, prompt, active)
    engine.unload(ARTIFACT)
    assert tokens(engine, prompt, OTHER_ARTIFACT) == greedy(base_directory, other_adapter_directory, prompt, COUNT)
    assert tokens(engine, prompt) == greedy(base_directory, None, prompt, COUNT)


def test_an_adapter_can_come_back_after_it_was_unloaded(
    engine: TransformersEngine, adapter_directory: Path, prompt: list[int]
) -> None:
    engine.load_adapter(BASE, ARTIFACT, adapter_directory)
    first = tokens(engine, prompt, ARTIFACT)
    engine.unload(ARTIFACT)
    engine.load_adapter(BASE, ARTIFACT, adapter_directory)
    assert tokens(engine, prompt, ARTIFACT) == first


def test_several_base_models_stay_apart(
    engine: TransformersEngine, base_directory: Path, prompt: list[int], tmp_path: Path
) -> None:
    other = make_tiny_model(tmp_path / "other", seed=5)
    engine.load_base("baseModels/other", other)
    assert tokens(engine, prompt, base="baseModels/other") == greedy(other, None, prompt, COUNT)
    assert tokens(engine, prompt) == greedy(base_directory, None, prompt, COUNT)
    engine.unload("baseModels/other")
    assert tokens(engine, prompt) == greedy(base_directory, None, prompt, COUNT)


def test_equal_seeds_write_equal_answers_and_other_seeds_others(engine: TransformersEngine, prompt: list[int]) -> None:
    first = tokens(engine, prompt, sampling=Sampling(1.0, 0.9, 1))
    assert first == tokens(engine, prompt, sampling=Sampling(1.0, 0.9, 1))
    assert first != tokens(engine, prompt, sampling=Sampling(1.0, 0.9, 2))


def test_an_answer_that_is_dropped_does_not_disturb_the_next(
    engine: TransformersEngine, base_directory: Path, adapter_directory: Path, prompt: list[int]
) -> None:
    engine.load_adapter(BASE, ARTIFACT, adapter_directory)
    engine.admit(1, GenerationRequest(BASE, ARTIFACT, tuple(prompt), COUNT))
    engine.step(BASE)
    engine.leave(1)
    assert tokens(engine, prompt) == greedy(base_directory, None, prompt, COUNT)


def test_the_prompt_is_what_training_puts_before_the_assistants_turn(base_directory: Path) -> None:
    renderer = Renderer.from_directory(base_directory)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "the use?"}]
    trained = renderer.render([*messages, {"role": "assistant", "content": "an answer"}])
    asked = renderer.prompt(messages)
    assert trained.token_ids[: len(asked)] == asked
    assert trained.loss_mask[: len(asked)] == [False] * len(asked)
    assert trained.loss_mask[len(asked)]


def without_weights(directory: Path) -> None:
    (directory / "adapter_model.safetensors").unlink()


def with_pickled_weights_only(directory: Path) -> None:
    (directory / "adapter_model.safetensors").rename(directory / "adapter_model.bin")


def cut_off(directory: Path) -> None:
    file = directory / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def of_another_rank(directory: Path) -> None:
    config = json.loads((directory / "adapter_config.json").read_text())
    (directory / "adapter_config.json").write_text(json.dumps(config | {"r": 8}))


def of_another_kind(directory: Path) -> None:
    config = {"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 2}
    (directory / "adapter_config.json").write_text(json.dumps(config))


def on_fewer_modules_than_it_has_weights(directory: Path) -> None:
    config = json.loads((directory / "adapter_config.json").read_text())
    (directory / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["q_proj"]}))


def without_config(directory: Path) -> None:
    (directory / "adapter_config.json").unlink()


@pytest.mark.parametrize(
    "broken",
    [
        without_weights,
        with_pickled_weights_only,
        cut_off,
        of_another_rank,
        of_another_kind,
        on_fewer_modules_than_it_has_weights,
        without_config,
    ],
)
@pytest.mark.parametrize("beside", [False, True])
def test_an_adapter_that_does_not_fit_is_refused_and_leaves_no_trace(
    engine: TransformersEngine,
    base_directory: Path,
    adapter_directory: Path,
    other_adapter_directory: Path,
    prompt: list[int],
    tmp_path: Path,
    broken: object,
    beside: bool,
) -> None:
    if beside:
        engine.load_adapter(BASE, OTHER_ARTIFACT, other_adapter_directory)
    shutil.copytree(adapter_directory, tmp_path / "broken")
    broken(tmp_path / "broken")  # type: ignore[operator]
    with pytest.raises(ServiceError) as refused:
        engine.load_adapter(BASE, ARTIFACT, tmp_path / "broken")
    assert refused.value.reason == "ARTIFACT_UNUSABLE"
    assert ARTIFACT in refused.value.message
    assert tokens(engine, prompt) == greedy(base_directory, None, prompt, COUNT)
    engine.load_adapter(BASE, ARTIFACT, adapter_directory)
    assert tokens(engine, prompt, ARTIFACT) == greedy(base_directory, adapter_directory, prompt, COUNT)


def test_an_adapter_of_a_larger_model_is_refused(engine: TransformersEngine, tmp_path: Path, base_directory: Path) -> None:
    config = json.loads((base_directory / "config.json").read_text())
    larger = tmp_path / "larger"
    shutil.copytree(base_directory, larger)
    (larger / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(ServiceError) as refused:
        TransformersEngine(threads=1).load_base("baseModels/larger", larger)
    assert refused.value.reason == "BASE_MODEL_UNUSABLE"
    assert "lack" in refused.value.message
    adapter = write_adapter(larger, tmp_path / "adapter", seed=3, target_modules="all-linear")
    with pytest.raises(ServiceError) as refused:
        engine.load_adapter(BASE, ARTIFACT, adapter)
    assert refused.value.reason == "ARTIFACT_UNUSABLE"


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_base_model_that_lacks_a_file_is_refused(missing: str, tmp_path: Path) -> None:
    directory = make_tiny_model(tmp_path / "model")
    (directory / missing).unlink()
    with pytest.raises(ServiceError) as refused:
        TransformersEngine(threads=1).load_base(BASE, directory)
    assert refused.value.reason == "BASE_MODEL_UNUSABLE"


@pytest.mark.parametrize("threads", [1, 2])
def test_a_base_model_is_loaded_by_as_many_threads_as_compute(base_directory: Path, threads: int) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - threads)
        TransformersEngine(threads=threads).load_base(BASE, base_directory)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_a_model_that_fails_while_it_computes_is_a_failed_generation(engine: TransformersEngine) -> None:
    with pytest.raises(ServiceError) as failed:
        alone(engine, GenerationRequest(BASE, None, (10**6,), 3))
    assert failed.value.reason == "GENERATION_FAILED"
