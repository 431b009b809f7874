"""Asks storage what a task's result, a checkpoint and an alias stand for: what BundleStore leaves open."""

from collections.abc import Sequence
from typing import Any

import grpc

from services.common.channels import call_metadata, translated
from services.common.errors import NotFound, ServiceError
from services.inference.checkpoint import Recipe
from tunesmith.v1 import (
    artifact_pb2,
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    task_spec_pb2,
)

_CALL_SECONDS = 20.0
_ENDED = (artifact_pb2.Artifact.EXPIRED, artifact_pb2.Artifact.DELETED)
# A checkpoint is on the way to a result; files for other programs and tables of outcomes answer nothing.
_RESULTS = (artifact_pb2.Artifact.ADAPTER, artifact_pb2.Artifact.MODEL, artifact_pb2.Artifact.MERGED)


class ArtifactLookup:
    """Storage behind `channel`, reduced to a few questions."""

    def __init__(self, channel: grpc.aio.Channel, *, api_key: str = "") -> None:
        self._artifacts = artifact_service_pb2_grpc.ArtifactServiceStub(channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(channel)
        self._api_key = api_key

    async def newest(self, task: str) -> str | None:
        """Name of the newest result of `tasks/{uuid}`, None when it has none; raises Unavailable (STORAGE_UNAVAILABLE)."""
        return next((str(each.name) for each in await self._list(task) if each.kind in _RESULTS), None)

    async def refuse_ended(self, task: str) -> None:
        """Raises what storage says of the newest result of a task that has ended (ARTIFACT_EXPIRED): when, and the way back."""
        ended = await self._list(task, states=_ENDED)
        if newest := next((each.name for each in ended if each.kind in _RESULTS), None):
            await self._get(newest)

    async def checkpoint(self, task: str, step: int) -> str:
        """Name of a task's checkpoint, of the newest attempt that has the step.

        Raises NotFound (CHECKPOINT_NOT_FOUND) telling which steps there are, NotFound (ARTIFACT_EXPIRED) for one that can be
        restored, Unavailable (STORAGE_UNAVAILABLE).
        """
        stored = await self._list(task, kind=artifact_pb2.Artifact.CHECKPOINT)
        found = [each for each in stored if each.manifest.step == step]
        if not found:
            await self._refuse_restorable(task, step)
            known = ", ".join(map(str, sorted({each.manifest.step for each in stored}))) or "none"
            name = f"{task}@step-{step}"
            raise NotFound("CHECKPOINT_NOT_FOUND", name, message=f"{name} does not exist; steps with a checkpoint: {known}")
        return str(max(found, key=lambda each: each.create_time.ToNanoseconds()).name)

    async def _refuse_restorable(self, task: str, step: int) -> None:
        """Raises what storage says of a checkpoint that has ended, unless its bytes are gone: most were superseded."""
        ended = await self._list(task, kind=artifact_pb2.Artifact.CHECKPOINT, states=[artifact_pb2.Artifact.EXPIRED])
        for each in (each for each in ended if each.manifest.step == step):
            try:
                await self._get(each.name)
            except ServiceError as error:
                if error.reason != "ARTIFACT_EXPIRED" or "delete_time" in error.metadata:
                    raise

    async def recipe(self, artifact: str) -> Recipe:
        """How an artifact was trained; raises NotFound and Unavailable (STORAGE_UNAVAILABLE)."""
        manifest = (await self._get(artifact)).manifest
        has_adapter = manifest.tuning != task_spec_pb2.FineTuning.FULL
        method = task_spec_pb2.FineTuning.Method.Name(manifest.method)
        lora = manifest.effective_hyperparameters.lora
        return Recipe(method, _lora(lora), lora.last_layers) if has_adapter else Recipe(method, None)

    async def version(self, name: str) -> str:
        """Name of the version of a registered model; raises NotFound and Unavailable (STORAGE_UNAVAILABLE)."""
        request = model_service_pb2.GetModelVersionRequest(name=name)
        with translated("STORAGE_UNAVAILABLE", "storage"):
            found = await self._models.GetModelVersion(request, timeout=_CALL_SECONDS, metadata=call_metadata(self._api_key))
        return str(found.name)

    async def weight_bytes(self, name: str) -> int:
        """Bytes of a base model's weights as they are stored; raises NotFound and Unavailable (STORAGE_UNAVAILABLE)."""
        request = model_service_pb2.GetBaseModelRequest(name=name)
        with translated("STORAGE_UNAVAILABLE", "storage"):
            found = await self._models.GetBaseModel(request, timeout=_CALL_SECONDS, metadata=call_metadata(self._api_key))
        return sum(file.size_bytes for file in found.files if file.path.endswith(".safetensors"))

    async def base_models(self) -> list[str]:
        """Ids of base models, the first twenty; raises Unavailable (STORAGE_UNAVAILABLE)."""
        request = model_service_pb2.ListBaseModelsRequest(page_size=20)
        with translated("STORAGE_UNAVAILABLE", "storage"):
            page = await self._models.ListBaseModels(request, timeout=_CALL_SECONDS, metadata=call_metadata(self._api_key))
        return [str(each.name).removeprefix("baseModels/") for each in page.base_models]

    async def _list(self, task: str, **filters: Any) -> Sequence[artifact_pb2.Artifact]:
        request = artifact_service_pb2.ListArtifactsRequest(task=task, page_size=1000, **filters)
        with translated("STORAGE_UNAVAILABLE", "storage"):
            page = await self._artifacts.ListArtifacts(request, timeout=_CALL_SECONDS, metadata=call_metadata(self._api_key))
        return page.artifacts

    async def _get(self, artifact: str) -> artifact_pb2.Artifact:
        request = artifact_service_pb2.GetArtifactRequest(name=artifact)
        with translated("STORAGE_UNAVAILABLE", "storage"):
            return await self._artifacts.GetArtifact(request, timeout=_CALL_SECONDS, metadata=call_metadata(self._api_key))


def _lora(lora: task_spec_pb2.Lora) -> dict[str, Any]:
    """The fields of peft's LoraConfig that the weights of an adapter belong to."""
    modules = list(lora.target_modules)
    return {
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": "all-linear" if modules == ["all-linear"] else modules,
        "use_rslora": lora.use_rslora,
        "use_dora": lora.use_dora,
    }
