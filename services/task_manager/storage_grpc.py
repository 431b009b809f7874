"""The storage service over gRPC: the adapter of `storage_port`; made in `__main__`."""

import json
from collections.abc import Mapping
from typing import Any

import grpc
import structlog

from services.common.catalogue import ErrorClass
from services.common.channels import call_metadata, translated
from services.common.errors import ServiceError
from services.task_manager.domain.comparison import Provenance
from services.task_manager.domain.inputs import BaseModelFacts, DatasetFacts, RefusedRow, TokenFacts
from services.task_manager.domain.model_shape import ModelShape
from services.task_manager.domain.origin import ArtifactFacts
from services.task_manager.field_paths import fields_of
from services.task_manager.origin_conversion import artifact_facts, imported_adapter_facts, version_facts
from tunesmith.v1 import (
    artifact_pb2,
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    dataset_pb2,
    dataset_service_pb2,
    dataset_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    registered_model_pb2,
)

log = structlog.get_logger()

_REASON = "STORAGE_UNAVAILABLE"
_NOT_COUNTED = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNIMPLEMENTED)
_DATA = ("dataset_sha256", "rendered_rows_sha256", "datasets", "validation_dataset", "validation_split_ratio")
_MAX_CONFIG_BYTES = 1024 * 1024


class GrpcStorage:
    """The storage service. `deadline` caps each call but that for tokens, in seconds."""

    def __init__(self, channel: grpc.aio.Channel, *, api_key: str = "", deadline: float = 10.0) -> None:
        self._datasets = dataset_service_pb2_grpc.DatasetServiceStub(channel)
        self._artifacts = artifact_service_pb2_grpc.ArtifactServiceStub(channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(channel)
        self._api_key = api_key
        self._deadline = deadline

    async def dataset(self, name: str) -> DatasetFacts:
        """See Storage."""
        request = dataset_service_pb2.GetDatasetRequest(name=name)
        with translated(_REASON, "storage"):
            answer = await self._datasets.GetDataset(request, timeout=self._deadline, metadata=call_metadata(self._api_key))
        return DatasetFacts(answer.statistics.example_count, _format(answer.format))

    async def base_model(self, name: str) -> BaseModelFacts:
        """See Storage."""
        request = model_service_pb2.GetBaseModelRequest(name=name)
        with translated(_REASON, "storage"):
            answer = await self._models.GetBaseModel(request, timeout=self._deadline, metadata=call_metadata(self._api_key))
        return BaseModelFacts(
            answer.context_length, answer.parameter_count, answer.chat_template_problem, answer.revision, answer.family
        )

    async def model_shape(self, model: str) -> ModelShape | None:
        """See Storage."""
        try:
            config = json.loads(await self._small_file(model, "config.json"))
        except (ServiceError, ValueError) as error:
            if isinstance(error, ServiceError) and error.error_class is ErrorClass.TRANSIENT:
                raise
            log.info("model.shape_unknown", model=model, message=str(error))
            return None
        return ModelShape.from_config(config) if isinstance(config, Mapping) else None

    async def tokens(
        self, dataset: str, *, base_model: str, max_seq_length: int, against: str, patience: float
    ) -> TokenFacts | None:
        """See Storage."""
        request = dataset_service_pb2.AnalyzeDatasetRequest(
            name=dataset, base_model=base_model, max_seq_length=max_seq_length, against=against
        )
        with translated(_REASON, "storage"):
            try:
                answer = await self._datasets.AnalyzeDataset(
                    request, timeout=max(0.0, patience), metadata=call_metadata(self._api_key)
                )
            except grpc.aio.AioRpcError as error:
                if error.code() not in _NOT_COUNTED:
                    raise
                log.info("tokens.not_counted", dataset=dataset, base_model=base_model, status=error.code().name)
                return None
        return _facts(answer) if answer.HasField("tokens") else None

    async def artifact(self, name: str) -> ArtifactFacts:
        """See Storage."""
        request = artifact_service_pb2.GetArtifactRequest(name=name)
        with translated(_REASON, "storage"):
            answer = await self._artifacts.GetArtifact(request, timeout=self._deadline, metadata=call_metadata(self._api_key))
        return artifact_facts(answer)

    async def model_version(self, name: str) -> ArtifactFacts:
        """See Storage."""
        version = await self._version(name)
        if version.manifest.task or version.format != registered_model_pb2.ModelVersion.ADAPTER:
            return version_facts(version)
        try:
            config = await self._small_file(version.name, "adapter_config.json")
        except ValueError:
            # Far too large; what it says would be out of every limit.
            config = b""
        return imported_adapter_facts(version, config)

    async def hold(self, name: str) -> None:
        """See Storage."""
        if name.startswith("models/"):
            await self._version(name)
            return
        request = artifact_service_pb2.HoldArtifactRequest(name=name)
        with translated(_REASON, "storage"):
            await self._artifacts.HoldArtifact(request, timeout=self._deadline, metadata=call_metadata(self._api_key))

    async def checkpoints(self, task: str) -> list[ArtifactFacts]:
        """See Storage."""
        request = artifact_service_pb2.ListArtifactsRequest(task=task, kind=artifact_pb2.Artifact.CHECKPOINT, page_size=1000)
        with translated(_REASON, "storage"):
            answer = await self._artifacts.ListArtifacts(request, timeout=self._deadline, metadata=call_metadata(self._api_key))
        found = sorted(answer.artifacts, key=lambda each: (each.manifest.step, each.create_time.ToNanoseconds()), reverse=True)
        return [artifact_facts(artifact) for artifact in found]

    async def provenance(self, artifact: str) -> Provenance:
        """Data and versions of an artifact; raises ServiceError ARTIFACT_NOT_FOUND, ARTIFACT_EXPIRED, Unavailable."""
        request = artifact_service_pb2.GetArtifactRequest(name=artifact)
        with translated(_REASON, "storage"):
            answer = await self._artifacts.GetArtifact(request, timeout=self._deadline, metadata=call_metadata(self._api_key))
        return _provenance(answer.manifest)

    async def _version(self, name: str) -> registered_model_pb2.ModelVersion:
        request = model_service_pb2.GetModelVersionRequest(name=name)
        with translated(_REASON, "storage"):
            metadata = call_metadata(self._api_key)
            return await self._models.GetModelVersion(request, timeout=self._deadline, metadata=metadata)

    async def _small_file(self, model: str, path: str) -> bytes:
        request = model_service_pb2.DownloadModelRequest(name=model, path=path)
        content = b""
        with translated(_REASON, "storage"):
            metadata = call_metadata(self._api_key)
            async for response in self._models.DownloadModel(request, timeout=self._deadline, metadata=metadata):
                content += response.chunk
                if len(content) > _MAX_CONFIG_BYTES:
                    raise ValueError(f"{path} is larger than {_MAX_CONFIG_BYTES} bytes")
        return content


def _format(number: Any) -> str:
    # A format of a newer storage service has no name here, and fits no method that is known here.
    known = dataset_pb2.Dataset.Format.DESCRIPTOR.values_by_number
    return (known[number].name if number in known else f"number {number}") if number else ""


def _provenance(manifest: artifact_pb2.ArtifactManifest) -> Provenance:
    data, versions = artifact_pb2.ArtifactManifest(), artifact_pb2.ArtifactManifest()
    data.MergeFrom(manifest)
    for field in manifest.DESCRIPTOR.fields:
        if field.name not in _DATA:
            data.ClearField(field.name)  # type: ignore[arg-type]
    versions.base_model_revision = manifest.base_model_revision
    versions.versions.update(manifest.versions)
    return Provenance(fields_of(data), fields_of(versions))


def _facts(answer: dataset_service_pb2.DatasetAnalysis) -> TokenFacts:
    tokens = answer.tokens
    same = ("example_count", "token_count", "trainable_token_count", "over_length_count", "truncated_answer_count")
    return TokenFacts(
        **{name: getattr(tokens, name) for name in same},
        untrainable_count=tokens.untrainable_count,
        longest=tokens.lengths.max,
        refused_count=tokens.violation_count,
        refused=tuple(RefusedRow(row.line, row.path, row.message) for row in tokens.violations),
        histogram=tuple((bucket.up_to, bucket.count) for bucket in tokens.lengths.histogram),
        rows_in_validation=answer.overlap.same_row_count,
    )
