"""From names to files."""

import dataclasses
from pathlib import Path

import pytest
from checkpoint_files import write_checkpoint
from inference_fakes import ARTIFACT, TASK, FakeArtifacts, FakeBundles

from services.common.bundles import Bundle
from services.common.errors import ServiceError, Unavailable
from services.inference.checkpoint import Recipe
from services.inference.resolver import ModelFiles, Resolver

BASE = Bundle("baseModels/tiny", Path("base"), "baseModels/tiny", "r1")
ADAPTER = Bundle(ARTIFACT, Path("adapter"), "baseModels/tiny", "r1", is_adapter=True)
TUNED = Bundle(ARTIFACT, Path("tuned"), "baseModels/tiny", "r1")


def resolver(*bundles: Bundle, newest: dict[str, str] | None = None) -> Resolver:
    return Resolver(FakeBundles(*bundles), FakeArtifacts(newest))


async def test_a_base_model_is_found_by_name_and_by_bare_id() -> None:
    for name in ("tiny", "baseModels/tiny"):
        assert await resolver(BASE).files(name) == ModelFiles(BASE)


async def test_a_base_model_is_weighed_without_its_files() -> None:
    asked = resolver()
    artifacts = asked._artifacts
    assert isinstance(artifacts, FakeArtifacts)
    artifacts.weights["baseModels/tiny"] = 70
    assert [await asked.least_bytes(name) for name in ("tiny", "baseModels/tiny", ARTIFACT, TASK)] == [70, 70, 0, 0]


async def test_an_artifact_brings_its_base_model() -> None:
    files = await resolver(BASE, ADAPTER).files(ARTIFACT)
    assert files == ModelFiles(BASE, ADAPTER)
    assert files.name == ARTIFACT


async def test_a_whole_model_needs_no_base_model() -> None:
    files = await resolver(TUNED).files(ARTIFACT)
    assert files == ModelFiles(TUNED)
    assert files.name == ARTIFACT


@pytest.mark.parametrize("kind", ["MODEL", "MERGED"])
async def test_a_whole_model_of_either_kind_stands_alone(kind: str) -> None:
    whole = dataclasses.replace(TUNED, kind=kind)
    assert await resolver(whole).files(ARTIFACT) == ModelFiles(whole)


@pytest.mark.parametrize("kind", ["GGUF", "EVALUATION", "GENERATION"])
async def test_what_is_no_model_is_refused_by_what_it_is(kind: str) -> None:
    with pytest.raises(ServiceError, match=f"is of kind {kind}, which cannot answer") as refused:
        await resolver(dataclasses.replace(TUNED, kind=kind)).files(ARTIFACT)
    assert refused.value.reason == "MODEL_NOT_FOUND"


async def test_a_task_is_its_newest_artifact() -> None:
    files = await resolver(BASE, ADAPTER, newest={TASK: ARTIFACT}).files(TASK)
    assert files == ModelFiles(BASE, ADAPTER)


async def test_a_task_without_artifacts_is_not_ready_and_the_message_says_why() -> None:
    with pytest.raises(ServiceError) as refused:
        await resolver(BASE).files(TASK)
    assert refused.value.reason == "MODEL_NOT_READY"
    assert refused.value.status == "FAILED_PRECONDITION"
    assert TASK in refused.value.message
    assert "no such task" in refused.value.message
    assert "task watch" in refused.value.hint


async def test_a_task_whose_result_has_ended_says_so_and_can_still_be_unloaded() -> None:
    artifacts = FakeArtifacts({})
    artifacts.ended[TASK] = ARTIFACT
    ended = Resolver(FakeBundles(BASE), artifacts)
    with pytest.raises(ServiceError, match=f"{ARTIFACT} expired at noon") as refused:
        await ended.files(TASK)
    assert refused.value.reason == "ARTIFACT_EXPIRED"
    assert await ended.loaded_name(TASK) is None


@pytest.mark.parametrize(
    ("model", "reason"), [("unknown", "BASE_MODEL_NOT_FOUND"), (ARTIFACT, "ARTIFACT_NOT_FOUND"), ("a/b", "INVALID_NAME")]
)
async def test_what_storage_says_passes_through(model: str, reason: str) -> None:
    with pytest.raises(ServiceError) as refused:
        await resolver().files(model)
    assert refused.value.reason == reason


@pytest.mark.parametrize(("bases", "known"), [(["smollm2", "tiny"], "smollm2, tiny"), ([], "none")], ids=["some", "none"])
async def test_a_name_that_nothing_has_is_told_as_it_was_asked_for_with_those_there_are(bases: list[str], known: str) -> None:
    artifacts = FakeArtifacts()
    artifacts.bases = bases
    with pytest.raises(ServiceError) as refused:
        await Resolver(FakeBundles(), artifacts).files("gpt-4o")
    assert refused.value.message.startswith(f"there is no model gpt-4o; base models: {known};")
    assert refused.value.metadata == {"resource": "baseModels/gpt-4o"}


async def test_the_base_model_of_a_result_is_not_what_was_asked_for() -> None:
    with pytest.raises(ServiceError, match=r"^baseModels/tiny does not exist$"):
        await resolver(ADAPTER).files(ARTIFACT)


async def test_storage_away_is_unavailable() -> None:
    bundles = FakeBundles(BASE)
    bundles.failure = Unavailable("STORAGE_UNAVAILABLE", "storage did not answer")
    with pytest.raises(Unavailable):
        await Resolver(bundles, FakeArtifacts()).files("tiny")


async def test_an_adapter_of_another_revision_of_the_base_model_is_refused() -> None:
    stale = Bundle(ARTIFACT, Path("adapter"), "baseModels/tiny", "r0", is_adapter=True)
    with pytest.raises(ServiceError) as refused:
        await resolver(BASE, stale).files(ARTIFACT)
    assert refused.value.reason == "BASE_MODEL_UNUSABLE"
    assert "r0" in refused.value.message


async def test_the_name_in_memory_needs_no_files() -> None:
    nothing_stored = resolver(newest={TASK: ARTIFACT})
    assert await nothing_stored.loaded_name("tiny") == "baseModels/tiny"
    assert await nothing_stored.loaded_name(ARTIFACT) == ARTIFACT
    assert await nothing_stored.loaded_name(TASK) == ARTIFACT
    assert await resolver().loaded_name(TASK) is None


async def test_a_registered_model_brings_its_base_model_and_answers_as_its_version() -> None:
    version = Bundle("models/mine/versions/3", Path("adapter"), "baseModels/tiny", "r1", is_adapter=True)
    bundles = FakeBundles(BASE)
    bundles.by_name["models/mine@champion"] = version
    files = await Resolver(bundles, FakeArtifacts()).files("models/mine@champion")
    assert files == ModelFiles(BASE, version)
    assert files.name == await resolver().loaded_name("models/mine@champion") == "models/mine/versions/3"


async def test_a_registered_model_that_is_whole_answers_by_itself() -> None:
    version = Bundle("models/mine/versions/3", Path("whole"), "baseModels/gone", "r1")
    bundles = FakeBundles()
    bundles.by_name["models/mine"] = version
    files = await Resolver(bundles, FakeArtifacts()).files("models/mine")
    assert files == ModelFiles(version)
    assert files.name == "models/mine/versions/3"


async def test_an_alias_that_is_none_is_told_as_storage_says_it() -> None:
    with pytest.raises(ServiceError) as refused:
        await resolver(BASE).files("models/mine@nobody")
    assert refused.value.reason == "MODEL_VERSION_NOT_FOUND"


@pytest.mark.parametrize("kind", ["GGUF", "EVALUATION", "GENERATION"])
async def test_what_is_no_model_cannot_answer_and_says_what_it_is(kind: str) -> None:
    with pytest.raises(ServiceError, match=f"of kind {kind}") as refused:
        await resolver(BASE, Bundle(ARTIFACT, Path("x"), "baseModels/tiny", "r1", kind=kind)).files(ARTIFACT)
    assert (refused.value.reason, refused.value.status) == ("MODEL_NOT_FOUND", "NOT_FOUND")


async def test_a_checkpoint_answers_as_an_adapter_on_its_base_model(tmp_path: Path) -> None:
    artifacts = FakeArtifacts()
    artifacts.checkpoints[TASK, 40] = ARTIFACT
    artifacts.recipes[ARTIFACT] = Recipe("SFT", {"r": 2})
    stored = Bundle(ARTIFACT, write_checkpoint(tmp_path / "c"), "baseModels/tiny", "r1", kind="CHECKPOINT")
    resolver = Resolver(FakeBundles(BASE, stored), artifacts)
    for name in (f"{TASK}@step-40", ARTIFACT):
        files = await resolver.files(name)
        assert (files.base, files.name) == (BASE, ARTIFACT)
        assert files.adapter is not None
        assert (files.adapter.directory / "adapter_model.safetensors").is_file()
    assert await resolver.loaded_name(f"{TASK}@step-40") == ARTIFACT
    with pytest.raises(ServiceError) as refused:
        await resolver.files(f"{TASK}@step-41")
    assert refused.value.reason == "CHECKPOINT_NOT_FOUND"
