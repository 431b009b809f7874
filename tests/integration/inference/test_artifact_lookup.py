"""What storage is asked about results and checkpoints, over a real channel."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from inference_fakes import ARTIFACT, OTHER_ARTIFACT, TASK
from inference_storage import DirectoryStorage, serving_storage

from services.common.errors import ServiceError
from services.inference.artifact_lookup import ArtifactLookup
from services.inference.checkpoint import Recipe
from tunesmith.v1.artifact_pb2 import Artifact, ArtifactManifest
from tunesmith.v1.task_spec_pb2 import FineTuning, Hyperparameters, Lora

pytestmark = pytest.mark.integration

LORA = Lora(rank=4, alpha=8.0, dropout=0.1, target_modules=["all-linear"], use_rslora=True)


@pytest.fixture
def storage() -> DirectoryStorage:
    return DirectoryStorage()


@pytest.fixture
async def lookup(storage: DirectoryStorage) -> AsyncIterator[ArtifactLookup]:
    async with serving_storage(storage) as address, grpc.aio.insecure_channel(address) as channel:
        yield ArtifactLookup(channel)


def add(storage: DirectoryStorage, name: str, kind: Artifact.Kind, step: int = 0, seconds: int = 0, **manifest: object) -> None:
    manifest = ArtifactManifest(task=TASK, step=step, **manifest)
    storage.others[name] = Artifact(name=name, kind=kind, state=Artifact.AVAILABLE, manifest=manifest)
    storage.others[name].create_time.FromSeconds(seconds)


async def test_a_result_is_neither_a_checkpoint_nor_a_file_for_others(storage: DirectoryStorage, lookup: ArtifactLookup) -> None:
    add(storage, "artifacts/c", Artifact.CHECKPOINT, 4)
    add(storage, "artifacts/g", Artifact.GGUF)
    assert await lookup.newest(TASK) is None
    for kind in (Artifact.ADAPTER, Artifact.MODEL, Artifact.MERGED):
        add(storage, ARTIFACT, kind)
        assert await lookup.newest(TASK) == ARTIFACT


async def test_a_checkpoint_is_found_by_its_step_the_newest_attempts_first(
    storage: DirectoryStorage, lookup: ArtifactLookup
) -> None:
    add(storage, OTHER_ARTIFACT, Artifact.CHECKPOINT, 8, seconds=2)
    add(storage, ARTIFACT, Artifact.CHECKPOINT, 8, seconds=3)
    add(storage, "artifacts/old", Artifact.CHECKPOINT, 4, seconds=1)
    add(storage, "artifacts/result", Artifact.ADAPTER, 8, seconds=9)
    assert await lookup.checkpoint(TASK, 8) == ARTIFACT
    with pytest.raises(ServiceError, match=r"@step-5 does not exist; steps with a checkpoint: 4, 8") as refused:
        await lookup.checkpoint(TASK, 5)
    assert refused.value.reason == "CHECKPOINT_NOT_FOUND"


@pytest.mark.parametrize("state", [Artifact.EXPIRED, Artifact.DELETED])
async def test_of_a_result_that_has_ended_storage_says_when(
    storage: DirectoryStorage, lookup: ArtifactLookup, state: Artifact.State
) -> None:
    add(storage, ARTIFACT, Artifact.ADAPTER)
    add(storage, OTHER_ARTIFACT, Artifact.CHECKPOINT)
    storage.others[ARTIFACT].state = state
    with pytest.raises(ServiceError, match=f"{ARTIFACT} expired at noon") as refused:
        await lookup.refuse_ended(TASK)
    assert refused.value.reason == "ARTIFACT_EXPIRED"
    assert await lookup.newest(TASK) is None
    await lookup.refuse_ended("tasks/other")


async def test_a_checkpoint_that_has_ended_is_told_while_it_can_come_back(
    storage: DirectoryStorage, lookup: ArtifactLookup
) -> None:
    add(storage, ARTIFACT, Artifact.CHECKPOINT, 8)
    add(storage, "artifacts/last", Artifact.CHECKPOINT, 12)
    storage.others[ARTIFACT].state = Artifact.EXPIRED
    with pytest.raises(ServiceError, match="steps with a checkpoint: 12"):
        await lookup.checkpoint(TASK, 8)
    storage.others[ARTIFACT].delete_time.FromSeconds(1)
    with pytest.raises(ServiceError) as refused:
        await lookup.checkpoint(TASK, 8)
    assert (refused.value.reason, refused.value.metadata["delete_time"]) == ("ARTIFACT_EXPIRED", "2026-01-19T00:00:00+00:00")


@pytest.mark.parametrize(
    ("tuning", "lora"),
    [
        (
            FineTuning.LORA,
            {
                "r": 4,
                "lora_alpha": 8.0,
                "lora_dropout": 0.1,
                "target_modules": "all-linear",
                "use_rslora": True,
                "use_dora": False,
            },
        ),
        (FineTuning.FULL, None),
    ],
    ids=["lora", "full"],
)
async def test_the_recipe_is_what_the_weights_were_trained_with(
    storage: DirectoryStorage, lookup: ArtifactLookup, tuning: FineTuning.Tuning, lora: dict[str, object] | None
) -> None:
    numbers = Hyperparameters(lora=LORA)
    add(storage, ARTIFACT, Artifact.CHECKPOINT, method=FineTuning.DPO, tuning=tuning, effective_hyperparameters=numbers)
    assert await lookup.recipe(ARTIFACT) == Recipe("DPO", lora)


async def test_modules_that_were_named_stay_named(storage: DirectoryStorage, lookup: ArtifactLookup) -> None:
    numbers = Hyperparameters(lora=Lora(rank=2, target_modules=["q_proj", "v_proj"], last_layers=3))
    add(storage, ARTIFACT, Artifact.CHECKPOINT, method=FineTuning.SFT, effective_hyperparameters=numbers)
    recipe = await lookup.recipe(ARTIFACT)
    assert (recipe.lora["target_modules"], recipe.last_layers) == (["q_proj", "v_proj"], 3)
    with pytest.raises(ServiceError) as refused:
        await lookup.recipe(OTHER_ARTIFACT)
    assert refused.value.reason == "ARTIFACT_NOT_FOUND"


async def test_the_base_models_there_are_by_their_ids(storage: DirectoryStorage, lookup: ArtifactLookup, tmp_path: Path) -> None:
    assert await lookup.base_models() == []
    storage.models = {f"baseModels/m{number:02}": tmp_path for number in range(30)}
    assert await lookup.base_models() == [f"m{number:02}" for number in range(20)]


async def test_weights_of_a_base_model_are_weighed_where_they_are_stored(
    storage: DirectoryStorage, lookup: ArtifactLookup, base_directory: Path
) -> None:
    storage.models["baseModels/tiny"] = base_directory
    assert await lookup.weight_bytes("baseModels/tiny") == (base_directory / "model.safetensors").stat().st_size
    assert storage.downloads == []
    with pytest.raises(ServiceError) as refused:
        await lookup.weight_bytes("baseModels/other")
    assert refused.value.reason == "BASE_MODEL_NOT_FOUND"
