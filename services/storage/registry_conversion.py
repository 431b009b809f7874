"""Registered models and exports between protos and domain values; used by the artifact and the model servicer."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from services.common.errors import Violation
from services.common.names import alias_name, base_model_id, registered_model_id, resource_uuid
from services.storage.artifact_conversion import timestamp
from services.storage.export import Verified
from services.storage.file import File, StoredFile, file_violations
from services.storage.model_import import ImportDraft
from services.storage.registered_model import DatasetShare, ExportDraft, Lineage, ModelVersion, RegisteredModel
from services.storage.request_fields import refuse, text_violations
from tunesmith.v1 import artifact_pb2, artifact_service_pb2, model_service_pb2, registered_model_pb2

_MAX_DESCRIPTION = 4096
_Format = registered_model_pb2.ModelVersion.Format
_KNOWN = ", ".join(name for name, number in _Format.items() if number)


def to_export_draft(request: artifact_service_pb2.ExportArtifactRequest) -> ExportDraft:
    """What an export asks for; raises InvalidArgument."""
    violations = [*text_violations(request.request_id, "request_id", required=False)]
    if request.format not in _Format.values():
        violations.append(Violation("format", f"{request.format} is not a format this server knows; use {_KNOWN}"))
    violations += _description_violations(request.description, "description")
    refuse(violations)
    return ExportDraft(
        artifact=resource_uuid(request.name, "artifacts"),
        model=registered_model_id(request.model, "model"),
        format=_Format.Name(request.format) if request.format else "",
        alias=alias_name(request.alias, "alias") if request.alias else "",
        description=request.description,
        request_id=request.request_id,
    )


def to_export_step(step: Verified | ModelVersion) -> artifact_service_pb2.StreamArtifactExportResponse:
    """How far an export is, as callers see it; behind the last of its bytes with the version."""
    if isinstance(step, Verified):
        return artifact_service_pb2.StreamArtifactExportResponse(verified_bytes=step.done, total_bytes=step.total)
    size = sum(file.size_bytes for file in step.files)
    return artifact_service_pb2.StreamArtifactExportResponse(
        verified_bytes=size, total_bytes=size, model_version=to_model_version(step)
    )


def to_import_draft(header: model_service_pb2.ImportModelHeader) -> ImportDraft:
    """What an upload imports; raises InvalidArgument."""
    files = tuple(File(file.path, file.size_bytes, file.sha256) for file in header.files)
    refuse([*_header_violations(header), *file_violations(files, "header.files")])
    return dataclasses.replace(_import_draft(header), files=files)


def to_server_import_draft(header: model_service_pb2.ImportModelHeader) -> ImportDraft:
    """What is imported from a place of the server, whose files are not known yet; raises InvalidArgument."""
    refuse([*_header_violations(header)])
    return _import_draft(header)


def _header_violations(header: model_service_pb2.ImportModelHeader) -> Iterator[Violation]:
    yield from text_violations(header.request_id, "header.request_id", required=False)
    yield from _description_violations(header.description, "header.description")


def _import_draft(header: model_service_pb2.ImportModelHeader) -> ImportDraft:
    return ImportDraft(
        model=registered_model_id(header.model, "header.model"),
        base_model=base_model_id(header.base_model, "header.base_model") if header.base_model else "",
        alias=alias_name(header.alias, "header.alias") if header.alias else "",
        description=header.description,
        request_id=header.request_id,
        files=(),
    )


def write_manifest(base_model: str, revision: str) -> bytes:
    """The manifest of what was imported; both are empty when no base model is beneath."""
    return artifact_pb2.ArtifactManifest(base_model=base_model, base_model_revision=revision).SerializeToString()


def read_lineage(manifest: bytes) -> Lineage:
    """What a serialised ArtifactManifest tells of the origin."""
    message = artifact_pb2.ArtifactManifest.FromString(manifest)
    return Lineage(
        task=message.task,
        step=message.step,
        base_model=message.base_model,
        base_model_revision=message.base_model_revision,
        dataset_sha256=message.dataset_sha256,
        metrics=dict(sorted(message.metrics.items())),
        hyperparameters=_numbers(message),
        versions=dict(message.versions),
        datasets=tuple(DatasetShare(each.dataset, each.sha256, each.weight) for each in message.datasets),
        parent=message.parent,
    )


def to_registered_model(model: RegisteredModel) -> registered_model_pb2.RegisteredModel:
    """A registered model as callers see it."""
    return registered_model_pb2.RegisteredModel(
        name=model.name,
        newest_version=model.newest_version,
        version_count=model.version_count,
        aliases=model.aliases,
        create_time=timestamp(model.create_time),
    )


def to_model_version(version: ModelVersion) -> registered_model_pb2.ModelVersion:
    """A version as callers see it."""
    manifest = artifact_pb2.ArtifactManifest.FromString(version.manifest)
    del manifest.files[:]
    manifest.files.extend(map(to_file, version.files))
    return registered_model_pb2.ModelVersion(
        name=version.name,
        version=version.version,
        aliases=version.aliases,
        format=_Format.Value(version.format),
        description=version.description,
        artifact=f"artifacts/{version.artifact}" if version.artifact else "",
        manifest=manifest,
        size_bytes=version.size_bytes,
        create_time=timestamp(version.create_time),
        damaged_files=[file.path for file in version.files if file.damage],
    )


def to_file(file: StoredFile) -> artifact_pb2.File:
    """A file as callers see it."""
    return artifact_pb2.File(path=file.path, size_bytes=file.size_bytes, sha256=file.sha256, blake3=file.blake3)


def _description_violations(text: str, field: str) -> Iterator[Violation]:
    if len(text) > _MAX_DESCRIPTION:
        yield Violation(field, f"has {len(text)} characters; at most {_MAX_DESCRIPTION}")
    if any(character < " " and character not in "\n\t" for character in text):
        yield Violation(field, "holds a control character")


def _numbers(manifest: artifact_pb2.ArtifactManifest) -> dict[str, str]:
    numbers: dict[str, str] = {}
    for field, value in manifest.effective_hyperparameters.ListFields():
        if field.message_type is None:
            numbers[field.name] = _shown(value)
        else:
            inner = [f"{each.name} {_shown(number)}" for each, number in value.ListFields()]
            numbers[field.name] = ", ".join(inner)
    return numbers


def _shown(value: Any) -> str:
    """A number as one would set it: `true`, `0.0002`, `q_proj v_proj`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if isinstance(value, int | str) else " ".join(map(str, value))
