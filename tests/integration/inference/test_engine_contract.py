"""What every Engine keeps to: the real one and the fake that the unit tests trust."""

import shutil
from pathlib import Path

import pytest
from inference_fakes import ARTIFACT, OTHER_ARTIFACT, FakeEngine

from services.common.errors import ServiceError
from services.inference.engine import Engine, GenerationRequest
from services.inference.lazy_engine import LazyEngine
from services.inference.transformers_engine import TransformersEngine

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")]

BASE = "baseModels/tiny"
ENGINES = {"fake": FakeEngine, "transformers": lambda: TransformersEngine(threads=1), "lazy": lambda: LazyEngine(FakeEngine)}


@pytest.fixture(params=ENGINES.values(), ids=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.param()


def request_for(adapter: str | None = None, *, max_tokens: int = 5) -> GenerationRequest:
    return GenerationRequest(BASE, adapter, (10, 11, 12), max_tokens)


def test_it_writes_exactly_as_many_tokens_as_asked(engine: Engine, base_directory: Path) -> None:
    engine.load_base(BASE, base_directory)
    for count in (1, 2, 7):
        assert len(list(engine.generate(request_for(max_tokens=count)))) == count


def test_it_repeats_itself_without_sampling(engine: Engine, base_directory: Path) -> None:
    engine.load_base(BASE, base_directory)
    assert list(engine.generate(request_for())) == list(engine.generate(request_for()))


def test_an_answer_can_be_left_at_any_token(engine: Engine, base_directory: Path) -> None:
    engine.load_base(BASE, base_directory)
    first = next(iter(engine.generate(request_for(max_tokens=100))))
    assert next(iter(engine.generate(request_for()))) == first


def test_unloading_what_is_not_loaded_is_ignored(engine: Engine, base_directory: Path) -> None:
    engine.unload(BASE)
    engine.load_base(BASE, base_directory)
    engine.unload(ARTIFACT)
    assert len(list(engine.generate(request_for()))) == 5


def test_adapters_come_and_go_beside_the_base_model(
    engine: Engine, base_directory: Path, adapter_directory: Path, other_adapter_directory: Path
) -> None:
    engine.load_base(BASE, base_directory)
    engine.load_adapter(BASE, ARTIFACT, adapter_directory)
    engine.load_adapter(BASE, OTHER_ARTIFACT, other_adapter_directory)
    engine.unload(ARTIFACT)
    assert len(list(engine.generate(request_for(OTHER_ARTIFACT)))) == 5
    engine.unload(BASE)
    engine.load_base(BASE, base_directory)
    engine.load_adapter(BASE, ARTIFACT, adapter_directory)
    assert len(list(engine.generate(request_for(ARTIFACT)))) == 5


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
