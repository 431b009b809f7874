"""What is loaded before anybody asks: into free room alone, first to go, and kept as long as it is expected."""

import datetime
from pathlib import Path

import pytest
from inference_fakes import ARTIFACT, FakeEngine, files_of, write_adapter_weights

from services.common.errors import ServiceError
from services.inference.registry import Registry
from services.inference.resolver import ModelFiles
from services.inference.spare import Spare

BASE_BYTES = 27_136 * 4
MINUTE = datetime.timedelta(minutes=1)


class Clock:
    """Stands still until it is moved."""

    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

    def __call__(self) -> datetime.datetime:
        return self.now


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(engine: FakeEngine, clock: Clock) -> Registry:
    """Room for two base models."""
    return Registry(engine, max_bytes=2 * BASE_BYTES, now=clock, spare=Spare(BASE_BYTES))


@pytest.fixture
def base(model_directory: Path) -> ModelFiles:
    return files_of("tiny", model_directory)


@pytest.fixture
def others(model_directory: Path) -> list[ModelFiles]:
    return [files_of(name, model_directory) for name in ("first", "second")]


def names(registry: Registry) -> list[str]:
    return [loaded.name for loaded in registry.snapshot]


def used(registry: Registry, files: ModelFiles) -> None:
    registry.hold("a question", files)
    registry.release("a question")


def test_it_is_loaded_and_no_answer_is_noted(registry: Registry, engine: FakeEngine, base: ModelFiles) -> None:
    loaded = registry.load_ahead(base)
    assert (loaded.name, loaded.memory_bytes, loaded.last_use_time) == ("baseModels/tiny", BASE_BYTES, None)
    assert list(engine.bases) == names(registry) == ["baseModels/tiny"]


def test_nothing_is_unloaded_for_it(registry: Registry, base: ModelFiles, others: list[ModelFiles]) -> None:
    for other in others:
        used(registry, other)
    with pytest.raises(ServiceError, match="0 are not in use") as refused:
        registry.load_ahead(base)
    assert (refused.value.reason, refused.value.status) == ("NOT_LOADED_AHEAD", "RESOURCE_EXHAUSTED")
    assert names(registry) == ["baseModels/second", "baseModels/first"]


def test_it_makes_room_before_what_was_used_longer_ago(registry: Registry, base: ModelFiles, others: list[ModelFiles]) -> None:
    used(registry, others[0])
    registry.load_ahead(base)
    assert names(registry) == ["baseModels/first", "baseModels/tiny"]
    used(registry, others[1])
    assert names(registry) == ["baseModels/second", "baseModels/first"]


def test_once_it_has_answered_it_is_like_any_other(registry: Registry, base: ModelFiles, others: list[ModelFiles]) -> None:
    used(registry, others[0])
    registry.load_ahead(base)
    used(registry, base)
    used(registry, others[1])
    assert names(registry) == ["baseModels/second", "baseModels/tiny"]


def test_nobody_waits_for_his_next_token_because_of_it(registry: Registry, base: ModelFiles, others: list[ModelFiles]) -> None:
    registry.hold("a question", others[0])
    with pytest.raises(ServiceError, match="others are being answered"):
        registry.load_ahead(base)
    registry.release("a question")
    assert registry.load_ahead(base).name == "baseModels/tiny"
    registry.hold("a question", others[0])
    assert registry.load_ahead(base).name == "baseModels/tiny"


def test_a_repeat_loads_nothing_and_keeps_it_from_being_idle(
    registry: Registry, engine: FakeEngine, clock: Clock, base: ModelFiles
) -> None:
    registry.load_ahead(base)
    engine.bases.clear()
    for _ in range(5):
        clock.now += MINUTE
        registry.load_ahead(base)
        registry.unload_idle(MINUTE)
    assert (names(registry), engine.bases) == (["baseModels/tiny"], {})
    clock.now += 2 * MINUTE
    registry.unload_idle(MINUTE)
    assert names(registry) == []


def test_what_was_expected_before_it_was_unloaded_does_not_count_afterwards(
    registry: Registry, clock: Clock, base: ModelFiles
) -> None:
    registry.load_ahead(base)
    registry.unload("baseModels/tiny")
    registry.load(base)
    clock.now += MINUTE
    registry.unload_idle(MINUTE / 2)
    assert names(registry) == []


def test_what_did_not_load_is_not_tried_again_until_somebody_asks_it(
    registry: Registry, engine: FakeEngine, base: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def refuse(name: str, directory: Path) -> None:
        tries.append(name)
        raise ServiceError("BASE_MODEL_UNUSABLE", "its layers keep a state")

    with monkeypatch.context() as broken:
        broken.setattr(engine, "load_base", refuse)
        with pytest.raises(ServiceError, match="its layers keep a state"):
            registry.load_ahead(base)
        with pytest.raises(ServiceError, match="it did not load the last time") as refused:
            registry.load_ahead(base)
        assert (refused.value.reason, tries) == ("NOT_LOADED_AHEAD", ["baseModels/tiny"])
        with pytest.raises(ServiceError, match="its layers keep a state"):
            registry.load(base)
    registry.load(base)
    registry.unload("baseModels/tiny")
    assert registry.load_ahead(base).name == "baseModels/tiny"


def test_the_device_that_it_goes_to_is_asked_for_room(engine: FakeEngine, clock: Clock, base: ModelFiles) -> None:
    registry = Registry(engine, max_bytes=10**9, now=clock, spare=Spare(BASE_BYTES))
    engine.device_bytes = 2 * BASE_BYTES - 1
    with pytest.raises(ServiceError, match=f"its device has {2 * BASE_BYTES - 1:,} left"):
        registry.load_ahead(base)
    engine.device_bytes += 1
    assert registry.load_ahead(base).name == "baseModels/tiny"


def test_an_adapter_is_weighed_with_the_base_model_that_it_needs(
    engine: FakeEngine, clock: Clock, model_directory: Path, tmp_path: Path
) -> None:
    tuned = files_of("tiny", model_directory, ARTIFACT, write_adapter_weights(tmp_path / "a"))
    small = Registry(engine, max_bytes=10**9, now=clock, spare=Spare(BASE_BYTES))
    with pytest.raises(ServiceError, match=f"it takes {BASE_BYTES + 64:,} bytes"):
        small.load_ahead(tuned)
    small.load(files_of("tiny", model_directory))
    assert small.load_ahead(tuned).name == ARTIFACT
