"""Registered models and exports between protos and domain values; used by the artifact and the model servicer."""

from services.common.errors import Violation
from services.common.names import alias_name, registered_model_id, resource_uuid
from services.storage.artifact_conversion import timestamp
from services.storage.file import StoredFile
from services.storage.registered_model import ExportDraft, Lineage, ModelVersion, RegisteredModel
from services.storage.request_fields import refuse, text_violations
from tunesmith.v1 import artifact_pb2, artifact_service_pb2, registered_model_pb2

_MAX_DESCRIPTION = 4096
_Format = registered_model_pb2.ModelVersion.Format
_KNOWN = ", ".join(name for name, number in _Format.items() if number)


def to_export_draft(request: artifact_service_pb2.ExportArtifactRequest) -> ExportDraft:
    """What an export asks for; raises InvalidArgument."""
    violations = [*text_violations(request.request_id, "request_id", required=False)]
    if request.format not in _Format.values():
        violations.append(Violation("format", f"{request.format} is not a format this server knows; use {_KNOWN}"))
    if len(request.description) > _MAX_DESCRIPTION:
        violations.append(Violation("description", f"has {len(request.description)} characters; at most {_MAX_DESCRIPTION}"))
    if any(character < " " and character not in "\n\t" for character in request.description):
        violations.append(Violation("description", "holds a control character"))
    refuse(violations)
    return ExportDraft(
        artifact=resource_uuid(request.name, "artifacts"),
        model=registered_model_id(request.model, "model"),
        format=_Format.Name(request.format) if request.format else "",
        alias=alias_name(request.alias, "alias") if request.alias else "",
        description=request.description,
        request_id=request.request_id,
    )


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
        artifact=f"artifacts/{version.artifact}",
        manifest=manifest,
        size_bytes=version.size_bytes,
        create_time=timestamp(version.create_time),
    )


def to_file(file: StoredFile) -> artifact_pb2.File:
    """A file as callers see it."""
    return artifact_pb2.File(path=file.path, size_bytes=file.size_bytes, sha256=file.sha256)


def _numbers(manifest: artifact_pb2.ArtifactManifest) -> dict[str, str]:
    numbers: dict[str, str] = {}
    for field, value in manifest.effective_hyperparameters.ListFields():
        if field.message_type is None:
            numbers[field.name] = str(value)
        else:
            inner = [f"{each.name} {number}" for each, number in value.ListFields()]
            numbers[field.name] = ", ".join(inner)
    return numbers
