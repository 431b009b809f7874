"""What every Engine keeps to: the real one, and the fakes that the unit tests trust; vLLM itself: test_vllm.py."""

import dataclasses
import shutil
from pathlib import Path

import pytest
from engine_rows import alone, together
from fake_vllm import fake_vllm_engine
from inference_fakes import ARTIFACT, OTHER_ARTIFACT, FakeEngine
from remote_engines import in_a_thread

from services.common.errors import ServiceError
from services.inference.engine import Engine, GenerationRequest
from services.inference.remote_engine import RemoteEngine
from services.inference.transformers_engine import TransformersEngine

pytestmark = pytest.mark.integration

BASE = "baseModels/tiny"
ENGINES = {
    "fake": FakeEngine,
    "transformers": lambda: TransformersEngine(threads=1),
    "vllm-stand-in": fake_vllm_engine,
    "remote": lambda: RemoteEngine(lambda: in_a_thread(TransformersEngine(threads=1))),
}


@pytest.fixture(params=ENGINES.values(), ids=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.param()


def request_for(adapter: str | None = None, *, max_tokens: int = 5) -> GenerationRequest:
    return GenerationRequest(BASE, adapter, (10, 11, 12), max_tokens)


def test_it_writes_exactly_as_many_tokens_as_asked(engine: Engine, base_directory: Path) -> None:
    engine.load_base(BASE, base_directory)
    for count in (1, 2, 7):
        assert len(alone(engine, request_for(max_tokens=count))) == count


def test_it_repeats_itself_without_sampling(engine: Engine, base_directory: Path) -> None:
    engine.load_base(BASE, base_directory)
    assert alone(engine, request_for()) == alone(engine, request_for())


def test_an_answer_can_be_left_at_any_step(engine: Engine, base_directory: Path) -> None:
    engine.load_base(BASE, base_directory)
    engine.admit(1, request_for())
    engine.leave(1)
    engine.admit(2, request_for(max_tokens=100))
    engine.admit(3, request_for(max_tokens=100))
    first, second = engine.step(BASE), engine.step(BASE)
    assert set(first) == set(second) == {2, 3}
    engine.leave(2)
    engine.leave(2)
    assert set(engine.step(BASE)) == {3}
    engine.leave(3)
    assert engine.step(BASE) == {}
    assert alone(engine, request_for(max_tokens=2)) == [first[2].id, second[2].id]


def test_rows_come_and_go_between_steps_and_each_gets_its_own_tokens(
    engine: Engine, base_directory: Path, adapter_directory: Path, other_adapter_directory: Path
) -> None:
    engine.load_base(BASE, base_directory)
    engine.load_adapter(BASE, ARTIFACT, adapter_directory)
    engine.load_adapter(BASE, OTHER_ARTIFACT, other_adapter_directory)
    requests = [
        GenerationRequest(BASE, adapter, tuple(range(10, 10 + length)), count)
        for adapter, length, count in [(None, 3, 9), (ARTIFACT, 40, 2), (OTHER_ARTIFACT, 5, 12), (ARTIFACT, 7, 6), (None, 90, 4)]
    ]
    singly = [alone(engine, request) for request in requests]
    for stagger in (0, 1, 3):
        assert together(engine, requests, stagger=stagger) == singly


def test_base_models_have_batches_of_their_own(engine: Engine, base_directory: Path) -> None:
    for name in (BASE, "baseModels/other"):
        engine.load_base(name, base_directory)
    engine.admit(1, request_for())
    engine.admit(2, dataclasses.replace(request_for(), base="baseModels/other"))
    assert set(engine.step(BASE)) == {1}
    assert set(engine.step("baseModels/other")) == {2}


def test_unloading_what_is_not_loaded_is_ignored(engine: Engine, base_directory: Path) -> None:
    engine.unload(BASE)
    engine.load_base(BASE, base_directory)
    engine.unload(ARTIFACT)
    assert len(alone(engine, request_for())) == 5


def test_adapters_come_and_go_beside_the_base_model(
    engine: Engine, base_directory: Path, adapter_directory: Path, other_adapter_directory: Path
) -> None:
    engine.load_base(BASE, base_directory)
    engine.load_adapter(BASE, ARTIFACT, adapter_directory)
    engine.load_adapter(BASE, OTHER_ARTIFACT, other_adapter_directory)
    engine.unload(ARTIFACT)
    assert len(alone(engine, request_for(OTHER_ARTIFACT))) == 5
    engine.unload(BASE)
    engine.load_base(BASE, base_directory)
    engine.load_adapter(BASE, ARTIFACT, adapter_directory)
    assert len(alone(engine, request_for(ARTIFACT))) == 5


def test_weights_that_are_missing_are_named_by_their_reason(
    engine: Engine, base_directory: Path, adapter_directory: Path, tmp_path: Path
) -> None:
    base, adapter = (shutil.copytree(path, tmp_path / path.name) for path in (base_directory, adapter_directory))
    (base / "model.safetensors").unlink()
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ServiceError) as refused:
        engine.load_base(BASE, base)
    assert refused.value.reason == "BASE_MODEL_UNUSABLE"
    engine.load_base(BASE, base_directory)
    with pytest.raises(ServiceError) as refused:
        engine.load_adapter(BASE, ARTIFACT, adapter)
    assert refused.value.reason == "ARTIFACT_UNUSABLE"
