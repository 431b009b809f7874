"""What is in memory, in which order, and what makes room for what."""

import datetime
import itertools
import json
from pathlib import Path

import pytest
from inference_fakes import ARTIFACT, OTHER_ARTIFACT, FakeEngine, files_of, write_adapter_weights
from tiny_model import make_tiny_model

from services.common.bundles import Bundle
from services.common.errors import ServiceError
from services.inference import model_files
from services.inference.packing_bytes import Packing
from services.inference.ready_model import ReadyModel
from services.inference.registry import NoRoom, Registry
from services.inference.resolver import ModelFiles

BASE_BYTES = 27_136 * 4
ADAPTER_BYTES = 16 * 4
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def registry_of(engine: FakeEngine, *, max_bytes: int = 10**9) -> Registry:
    seconds = itertools.count()
    return Registry(engine, max_bytes=max_bytes, now=lambda: START + datetime.timedelta(seconds=next(seconds)))


def used(registry: Registry, files: ModelFiles) -> ReadyModel:
    """Held and released at once."""
    holder = object()
    ready = registry.hold(holder, files)
    registry.release(holder)
    return ready


def names(registry: Registry) -> list[str]:
    return [loaded.name for loaded in registry.snapshot]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def tuned(model_directory: Path, tmp_path: Path) -> ModelFiles:
    return files_of("tiny", model_directory, ARTIFACT, write_adapter_weights(tmp_path / "first"))


@pytest.fixture
def other_tuned(model_directory: Path, tmp_path: Path) -> ModelFiles:
    return files_of("tiny", model_directory, OTHER_ARTIFACT, write_adapter_weights(tmp_path / "second"))


def test_a_base_model_is_loaded_once(engine: FakeEngine, base_files: ModelFiles) -> None:
    registry = registry_of(engine)
    first = registry.load(base_files)
    engine.bases.clear()
    assert registry.load(base_files) == first
    assert engine.bases == {}
    assert (first.name, first.base_model, first.memory_bytes) == ("baseModels/tiny", "baseModels/tiny", BASE_BYTES)
    assert (first.load_time, first.last_use_time) == (START, None)


def test_an_adapter_brings_its_base_model_and_is_weighed_alone(engine: FakeEngine, tuned: ModelFiles) -> None:
    registry = registry_of(engine)
    loaded = registry.load(tuned)
    assert (loaded.name, loaded.base_model, loaded.memory_bytes) == (ARTIFACT, "baseModels/tiny", ADAPTER_BYTES)
    assert engine.adapters == {ARTIFACT: "baseModels/tiny"}
    assert names(registry) == [ARTIFACT, "baseModels/tiny"]


def test_a_whole_model_is_told_with_the_base_model_it_was_made_of_and_goes_without_it(
    engine: FakeEngine, base_files: ModelFiles, model_directory: Path
) -> None:
    registry = registry_of(engine)
    merged = ModelFiles(Bundle(ARTIFACT, model_directory, "baseModels/tiny", "r1", kind="MERGED"))
    assert (registry.load(merged).name, registry.load(merged).base_model) == (ARTIFACT, "baseModels/tiny")
    registry.load(base_files)
    registry.unload("baseModels/tiny")
    assert names(registry) == [ARTIFACT]
    registry.unload_idle(datetime.timedelta(0))
    assert names(registry) == []


def test_two_adapters_share_one_base_model(engine: FakeEngine, tuned: ModelFiles, other_tuned: ModelFiles) -> None:
    registry = registry_of(engine)
    registry.load(tuned)
    registry.load(other_tuned)
    assert list(engine.bases) == ["baseModels/tiny"]
    assert set(engine.adapters) == {ARTIFACT, OTHER_ARTIFACT}


def test_a_model_in_use_tells_what_its_base_model_knows(engine: FakeEngine, tuned: ModelFiles) -> None:
    ready = used(registry_of(engine), tuned)
    assert (ready.base, ready.adapter, ready.context_length) == ("baseModels/tiny", ARTIFACT, 512)
    assert ready.renderer.decode(list(ready.end_of_turn_ids), skip_special_tokens=False) == "<|im_end|>"


def test_use_is_noted_for_what_answered_and_orders_the_list(
    engine: FakeEngine, base_files: ModelFiles, tuned: ModelFiles, other_tuned: ModelFiles
) -> None:
    registry = registry_of(engine)
    registry.load(other_tuned)
    used(registry, tuned)
    assert names(registry) == [ARTIFACT, "baseModels/tiny", OTHER_ARTIFACT]
    assert [loaded.last_use_time is not None for loaded in registry.snapshot] == [True, False, False]
    used(registry, base_files)
    assert names(registry) == ["baseModels/tiny", ARTIFACT, OTHER_ARTIFACT]


def test_unloading_a_base_model_takes_its_adapters_along(engine: FakeEngine, tuned: ModelFiles) -> None:
    registry = registry_of(engine)
    registry.load(tuned)
    registry.unload("baseModels/tiny")
    assert (engine.bases, engine.adapters, registry.snapshot) == ({}, {}, ())


def test_unloading_an_adapter_leaves_the_base_model(engine: FakeEngine, tuned: ModelFiles) -> None:
    registry = registry_of(engine)
    registry.load(tuned)
    registry.unload(ARTIFACT)
    assert names(registry) == ["baseModels/tiny"]
    assert engine.adapters == {}


def test_unloading_what_is_not_loaded_is_no_error(engine: FakeEngine, base_files: ModelFiles) -> None:
    registry = registry_of(engine)
    registry.load(base_files)
    registry.unload(ARTIFACT)
    registry.unload("baseModels/other")
    assert names(registry) == ["baseModels/tiny"]


def test_beyond_the_limit_what_was_used_longest_ago_makes_room(engine: FakeEngine, model_directory: Path) -> None:
    registry = registry_of(engine, max_bytes=2 * BASE_BYTES)
    for name in ("first", "second"):
        used(registry, files_of(name, model_directory))
    used(registry, files_of("first", model_directory))
    used(registry, files_of("third", model_directory))
    assert names(registry) == ["baseModels/third", "baseModels/first"]
    assert set(engine.bases) == {"baseModels/third", "baseModels/first"}


def test_exactly_the_limit_fits(engine: FakeEngine, tuned: ModelFiles) -> None:
    registry = registry_of(engine, max_bytes=BASE_BYTES + ADAPTER_BYTES)
    registry.load(tuned)
    assert names(registry) == [ARTIFACT, "baseModels/tiny"]


def test_a_new_adapter_does_not_push_out_its_own_base_model(
    engine: FakeEngine, tuned: ModelFiles, other_tuned: ModelFiles
) -> None:
    registry = registry_of(engine, max_bytes=BASE_BYTES + ADAPTER_BYTES)
    used(registry, tuned)
    used(registry, other_tuned)
    assert names(registry) == [OTHER_ARTIFACT, "baseModels/tiny"]


def test_a_model_larger_than_the_limit_is_loaded_alone(engine: FakeEngine, model_directory: Path) -> None:
    registry = registry_of(engine, max_bytes=1)
    used(registry, files_of("first", model_directory))
    used(registry, files_of("second", model_directory))
    assert names(registry) == ["baseModels/second"]


def test_other_files_under_the_same_name_replace_what_is_loaded(engine: FakeEngine, tuned: ModelFiles, tmp_path: Path) -> None:
    registry = registry_of(engine)
    used(registry, tuned)
    newer = make_tiny_model(tmp_path / "newer", seed=1)
    used(registry, files_of("tiny", newer))
    assert engine.bases == {"baseModels/tiny": newer}
    assert names(registry) == ["baseModels/tiny"]


def test_what_does_not_load_leaves_nothing_behind(engine: FakeEngine, model_directory: Path, tmp_path: Path) -> None:
    registry = registry_of(engine)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ServiceError) as refused:
        registry.load(files_of("tiny", model_directory, ARTIFACT, empty))
    assert refused.value.reason == "ARTIFACT_UNUSABLE"
    assert names(registry) == ["baseModels/tiny"]


def test_a_directory_that_is_no_model_is_named_unusable(engine: FakeEngine, tmp_path: Path) -> None:
    with pytest.raises(ServiceError) as refused:
        registry_of(engine).load(files_of("tiny", tmp_path))
    assert refused.value.reason == "BASE_MODEL_UNUSABLE"
    assert engine.bases == {}


def test_a_snapshot_does_not_change_afterwards(engine: FakeEngine, base_files: ModelFiles) -> None:
    registry = registry_of(engine)
    before = registry.snapshot
    registry.load(base_files)
    assert before == ()


def test_weights_are_counted_as_fp32_from_the_headers(model_directory: Path, tmp_path: Path) -> None:
    assert model_files.fp32_bytes(model_directory, broken="BASE_MODEL_UNUSABLE") == BASE_BYTES
    assert model_files.fp32_bytes(write_adapter_weights(tmp_path / "a", elements=5), broken="ARTIFACT_UNUSABLE") == 20


@pytest.mark.parametrize("content", [b"", b"\x05", b"\xff" * 16, b"\x02\x00\x00\x00\x00\x00\x00\x00[]"])
def test_weights_that_are_no_safetensors_have_the_reason_asked_for(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(ServiceError) as refused:
        model_files.fp32_bytes(tmp_path, broken="ARTIFACT_UNUSABLE")
    assert refused.value.reason == "ARTIFACT_UNUSABLE"
    assert "adapter_model.safetensors" in refused.value.message


@pytest.mark.parametrize(
    "config",
    [
        {"max_position_embeddings": 512, "vocab_size": 9},
        {"n_positions": 512, "n_ctx": 4, "vocab_size": 9},
        {"model_type": "gemma3", "text_config": {"max_position_embeddings": 512, "vocab_size": 9}},
        {"max_position_embeddings": None, "vocab_size": 9, "text_config": {"max_position_embeddings": 512, "vocab_size": 4}},
    ],
    ids=["as most", "as GPT-2", "a model of texts and pictures", "some above, some below"],
)
def test_context_length_and_vocabulary_are_found_where_families_write_them(config: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert (model_files.context_length(tmp_path), model_files.vocabulary_size(tmp_path)) == (512, 9)


@pytest.mark.parametrize(
    "content",
    [None, "not json", "[]", json.dumps({"hidden_size": 3}), json.dumps({"text_config": 3, "n_ctx": 0, "n_positions": "2"})],
)
def test_a_base_model_without_a_context_length_is_unusable(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ServiceError) as refused:
        model_files.context_length(tmp_path)
    assert refused.value.reason == "BASE_MODEL_UNUSABLE"


def test_what_is_held_is_not_unloaded_to_make_room_and_goes_once_it_is_released(
    engine: FakeEngine, model_directory: Path
) -> None:
    registry = registry_of(engine, max_bytes=2 * BASE_BYTES)
    first, second, third = (files_of(name, model_directory) for name in ("first", "second", "third"))
    registry.hold("a", first)
    registry.hold("b", second)
    for _ in range(2):
        with pytest.raises(NoRoom):
            registry.hold("c", third)
    assert names(registry) == ["baseModels/second", "baseModels/first"]
    registry.release("b")
    registry.hold("c", third)
    assert names(registry) == ["baseModels/third", "baseModels/first"]


def test_what_is_idle_stays_when_it_would_not_make_room_anyway(engine: FakeEngine, model_directory: Path) -> None:
    registry = registry_of(engine, max_bytes=BASE_BYTES - 1)
    registry.hold("a", files_of("held", model_directory))
    with pytest.raises(NoRoom):
        registry.hold("b", files_of("other", model_directory))
    assert names(registry) == ["baseModels/held"]


def test_a_held_adapter_holds_its_base_model(
    engine: FakeEngine, tuned: ModelFiles, model_directory: Path, other_tuned: ModelFiles
) -> None:
    registry = registry_of(engine, max_bytes=BASE_BYTES + ADAPTER_BYTES)
    registry.hold("a", tuned)
    with pytest.raises(NoRoom):
        registry.load(files_of("other", model_directory))
    with pytest.raises(NoRoom):
        registry.load(other_tuned)
    assert names(registry) == [ARTIFACT, "baseModels/tiny"]


@pytest.mark.parametrize("name", [ARTIFACT, "baseModels/tiny"])
def test_unloading_what_is_held_is_refused_until_everybody_has_released_it(
    engine: FakeEngine, tuned: ModelFiles, name: str
) -> None:
    registry = registry_of(engine)
    for holder in ("a", "b"):
        registry.hold(holder, tuned)
    registry.release("a")
    with pytest.raises(ServiceError) as refused:
        registry.unload(name)
    assert (refused.value.reason, names(registry)) == ("MODEL_IN_USE", [ARTIFACT, "baseModels/tiny"])
    registry.release("b")
    registry.release("b")
    registry.unload(name)
    assert name not in names(registry)


def test_other_files_under_the_same_name_wait_until_the_old_ones_are_released(
    engine: FakeEngine, base_files: ModelFiles, tmp_path: Path
) -> None:
    registry = registry_of(engine)
    registry.hold("a", base_files)
    newer = make_tiny_model(tmp_path / "newer", seed=1)
    with pytest.raises(NoRoom):
        registry.hold("b", files_of("tiny", newer))
    registry.release("a")
    registry.hold("b", files_of("tiny", newer))
    assert engine.bases == {"baseModels/tiny": newer}


def test_what_is_pinned_is_not_unloaded_until_others_are_pinned(
    engine: FakeEngine, model_directory: Path, tuned: ModelFiles
) -> None:
    registry = registry_of(engine, max_bytes=2 * BASE_BYTES)
    registry.pin([tuned])
    assert [(loaded.name, loaded.pinned) for loaded in registry.snapshot] == [(ARTIFACT, True), ("baseModels/tiny", False)]
    for name in (ARTIFACT, "baseModels/tiny"):
        with pytest.raises(ServiceError) as refused:
            registry.unload(name)
        assert refused.value.reason == "MODEL_PINNED"
    with pytest.raises(ServiceError, match="pinned") as refused:
        registry.load(files_of("other", model_directory))
    assert (refused.value.reason, refused.value.status) == ("MODEL_TOO_LARGE", "RESOURCE_EXHAUSTED")
    registry.pin([])
    registry.load(files_of("other", model_directory))
    assert names(registry) == ["baseModels/other"]


def test_what_can_never_stand_beside_the_pinned_is_refused_at_once_though_they_answer(
    engine: FakeEngine, model_directory: Path
) -> None:
    registry = registry_of(engine, max_bytes=2 * BASE_BYTES - 1)
    pinned = files_of("pinned", model_directory)
    registry.pin([pinned])
    registry.hold("a", pinned)
    with pytest.raises(ServiceError) as refused:
        registry.load(files_of("other", model_directory))
    assert refused.value.reason == "MODEL_TOO_LARGE"


def test_one_that_cannot_be_loaded_keeps_no_other_from_being_pinned(
    engine: FakeEngine, tuned: ModelFiles, model_directory: Path, tmp_path: Path
) -> None:
    registry = registry_of(engine)
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(ServiceError) as refused:
        registry.pin([files_of("tiny", model_directory, OTHER_ARTIFACT, empty), files_of("other", model_directory), tuned])
    assert refused.value.reason == "ARTIFACT_UNUSABLE"
    assert [loaded.name for loaded in registry.snapshot if loaded.pinned] == [ARTIFACT, "baseModels/other"]


def test_what_nobody_has_used_for_long_is_unloaded_the_adapter_before_its_base(
    engine: FakeEngine, tuned: ModelFiles, other_tuned: ModelFiles
) -> None:
    registry = registry_of(engine)
    registry.load(other_tuned)
    used(registry, tuned)
    registry.unload_idle(datetime.timedelta(seconds=60))
    assert len(names(registry)) == 3
    holder = object()
    registry.hold(holder, tuned)
    registry.unload_idle(datetime.timedelta(seconds=0))
    assert names(registry) == [ARTIFACT, "baseModels/tiny"]
    registry.release(holder)
    registry.pin([tuned])
    registry.unload_idle(datetime.timedelta(seconds=0))
    assert names(registry) == [ARTIFACT, "baseModels/tiny"]
    registry.pin([])
    registry.unload_idle(datetime.timedelta(seconds=0))
    assert (registry.snapshot, engine.bases, engine.adapters) == ((), {}, {})


@pytest.mark.parametrize(("limit", "times"), [(BASE_BYTES, 2), (BASE_BYTES - 1, 1), (0, 1)])
def test_a_base_model_that_is_packed_weighs_twice_and_its_adapter_once(
    engine: FakeEngine, tuned: ModelFiles, limit: int, times: int
) -> None:
    registry = Registry(engine, max_bytes=10**9, now=lambda: START, packing=Packing(limit))
    registry.load(tuned)
    assert {loaded.name: loaded.memory_bytes for loaded in registry.snapshot} == {
        ARTIFACT: ADAPTER_BYTES,
        "baseModels/tiny": times * BASE_BYTES,
    }
