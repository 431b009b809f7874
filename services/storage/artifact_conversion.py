"""Artifacts and their retention between protos and domain values; used by the artifact servicer."""

import dataclasses
import datetime
import math
import uuid
from collections.abc import Iterator, Sequence

from google.protobuf import timestamp_pb2

from services.common.errors import Violation
from services.common.names import resource_uuid
from services.storage.artifact import Artifact, ArtifactDraft, ArtifactFilter, artifact_name
from services.storage.checkpoint_retention import DEFAULT_LIMIT, CheckpointFacts
from services.storage.file import File, file_violations
from services.storage.request_fields import refuse, text_violations
from services.storage.retention import AVAILABLE, MAX_AHEAD
from services.storage.retention_change import Extend
from services.storage.sweep import Sweep
from tunesmith.v1 import artifact_pb2, artifact_service_pb2

State, Kind = artifact_pb2.Artifact.State, artifact_pb2.Artifact.Kind

_STORED_KINDS = [name for name, number in Kind.items() if number]


def to_draft(header: artifact_service_pb2.ArtifactHeader, identifier: uuid.UUID) -> ArtifactDraft:
    """The draft in an upload's header; raises InvalidArgument."""
    files = tuple(File(file.path, file.size_bytes, file.sha256) for file in header.manifest.files)
    refuse([*_header_violations(header, files)])
    return ArtifactDraft(
        id=identifier,
        kind=Kind.Name(header.kind),
        task=resource_uuid(header.manifest.task, "tasks", "header.manifest.task"),
        epoch=header.epoch,
        request_id=header.request_id,
        manifest=header.manifest.SerializeToString(deterministic=True),
        files=files,
        retention=_retention(header.manifest),
        checkpoint=_checkpoint_facts(header) if header.kind == artifact_pb2.Artifact.CHECKPOINT else None,
    )


def completed(draft: ArtifactDraft, files: Sequence[File]) -> ArtifactDraft:
    """The draft whose manifest tells the checksums of every file, `files` in its order."""
    manifest = artifact_pb2.ArtifactManifest.FromString(draft.manifest)
    for told, file in zip(manifest.files, files, strict=True):
        told.sha256, told.blake3 = file.sha256, file.blake3
    return dataclasses.replace(draft, files=tuple(files), manifest=manifest.SerializeToString(deterministic=True))


def to_filter(request: artifact_service_pb2.ListArtifactsRequest) -> ArtifactFilter:
    """Which artifacts a list asks for; raises InvalidArgument."""
    refuse([*_filter_violations(request)])
    return ArtifactFilter(
        task=resource_uuid(request.task, "tasks", "task") if request.task else None,
        states=tuple(sorted({State.Name(state) for state in request.states})) or (AVAILABLE,),
        kind=Kind.Name(request.kind) if request.kind else None,
        expiring_before=moment(request.max_expire_time, "max_expire_time") if request.HasField("max_expire_time") else None,
    )


def to_extension(request: artifact_service_pb2.ExtendArtifactRequest) -> Extend:
    """The wish to keep an artifact longer; raises InvalidArgument."""
    refuse([*text_violations(request.reason, "reason")])
    if request.WhichOneof("expiration") is None:
        refuse([Violation("expiration", "is required; set expire_time or extension")])
    if request.HasField("expire_time"):
        return Extend(request.reason, moment(request.expire_time, "expire_time"))
    seconds = request.extension.seconds
    if not 0 < seconds <= MAX_AHEAD.total_seconds():
        refuse([Violation("extension", f"{seconds} s is not within 1 s and {MAX_AHEAD.days} days")])
    return Extend(request.reason, extension=datetime.timedelta(seconds=seconds))


def to_artifact(artifact: Artifact) -> artifact_pb2.Artifact:
    """An artifact as callers see it."""
    return artifact_pb2.Artifact(
        name=artifact.name,
        kind=Kind.Value(artifact.kind),
        state=State.Value(artifact.state),
        manifest=_manifest(artifact),
        size_bytes=artifact.size_bytes,
        create_time=timestamp(artifact.create_time),
        expire_time=timestamp(artifact.expire_time),
        delete_time=timestamp(artifact.delete_time),
        pinned=artifact.life.pinned,
        reason=artifact.life.reason,
        hold_expire_time=timestamp(artifact.life.hold_until),
        damaged_files=[file.path for file in artifact.files if file.damage],
    )


def to_sweep_response(sweep: Sweep, *, dry_run: bool) -> artifact_service_pb2.SweepArtifactsResponse:
    """A sweep as operators see it."""
    message = artifact_service_pb2.SweepArtifactsResponse
    return message(
        dry_run=dry_run,
        expired=map(artifact_name, sweep.expired),
        deleted=map(artifact_name, sweep.deleted),
        removed_object_count=len(sweep.objects),
        removed_bytes=sum(item.size_bytes for item in sweep.objects),
        orphan_count=sweep.orphan_count,
        notices=[
            message.Notice(artifact=artifact_name(each.artifact), days=each.days, expire_time=timestamp(each.expire_time))
            for each in sweep.notices
        ],
        truncated=sweep.truncated,
    )


def timestamp(time: datetime.datetime | None) -> timestamp_pb2.Timestamp | None:
    """A moment as protos say it; unset stays unset."""
    if time is None:
        return None
    converted = timestamp_pb2.Timestamp()
    converted.FromDatetime(time)
    return converted


def moment(time: timestamp_pb2.Timestamp, field: str) -> datetime.datetime:
    """A moment of a request; raises InvalidArgument naming `field` when no calendar has it."""
    try:
        return time.ToDatetime(datetime.UTC)
    except (ValueError, OverflowError):
        refuse([Violation(field, f"{time.seconds} s is not within the years 1 and 9999")])
        raise


def _manifest(artifact: Artifact) -> artifact_pb2.ArtifactManifest:
    """As it was uploaded, with what storage knows of its files."""
    manifest = artifact_pb2.ArtifactManifest.FromString(artifact.manifest)
    known = {file.path: file.blake3 for file in artifact.files}
    for told in manifest.files:
        told.blake3 = known.get(told.path, told.blake3)
    return manifest


def _retention(manifest: artifact_pb2.ArtifactManifest) -> datetime.timedelta | None:
    if not manifest.HasField("retention"):
        return None
    return min(datetime.timedelta(seconds=max(1, min(manifest.retention.seconds, 10**9))), MAX_AHEAD)


def _checkpoint_facts(header: artifact_service_pb2.ArtifactHeader) -> CheckpointFacts:
    manifest = header.manifest
    return CheckpointFacts(
        labelled=bool(manifest.labels),
        eval_loss=manifest.eval_loss if manifest.HasField("eval_loss") and math.isfinite(manifest.eval_loss) else None,
        limit=max(1, manifest.effective_hyperparameters.save_total_limit or DEFAULT_LIMIT),
        attempt=manifest.attempt,
        first_attempt=header.first_attempt,
    )


def _header_violations(header: artifact_service_pb2.ArtifactHeader, files: tuple[File, ...]) -> Iterator[Violation]:
    yield from text_violations(header.request_id, "header.request_id")
    yield from file_violations(files, "header.manifest.files", digest_follows=True)
    if header.kind not in map(Kind.Value, _STORED_KINDS):
        yield Violation("header.kind", f"{header.kind} is not a kind this server stores; use {', '.join(_STORED_KINDS)}")
    if header.epoch < 1:
        yield Violation("header.epoch", f"{header.epoch} is not an epoch; the first is 1")


def _filter_violations(request: artifact_service_pb2.ListArtifactsRequest) -> Iterator[Violation]:
    for index, state in enumerate(request.states):
        if state not in State.values() or state == State.STATE_UNSPECIFIED:
            yield Violation(f"states[{index}]", f"{state} is not a state of an artifact")
    if request.kind not in Kind.values():
        yield Violation("kind", f"{request.kind} is not a kind of artifact")
