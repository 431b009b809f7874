"""Domain values of the registry: models, their versions, and what an export asks for; used by the export and the repository."""

import dataclasses
import datetime
import uuid
from collections.abc import Mapping

from services.common.errors import ServiceError
from services.storage.file import StoredFile


@dataclasses.dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A name under which versions are kept."""

    id: str
    newest_version: int
    """0 = there is none any more."""
    version_count: int
    aliases: Mapping[str, int]
    create_time: datetime.datetime

    @property
    def name(self) -> str:
        """Resource name."""
        return f"models/{self.id}"


@dataclasses.dataclass(frozen=True, slots=True)
class ExportDraft:
    """What somebody wants to keep for good."""

    artifact: uuid.UUID | None
    """None = it comes from outside, with a `manifest`."""
    model: str
    format: str
    """Name of the format, for example ADAPTER; empty = what the artifact is."""
    alias: str
    """Empty = none."""
    description: str
    request_id: str
    """Empty = none."""
    manifest: bytes = b""
    """Of what comes from outside: a serialised ArtifactManifest."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelVersion:
    """An exported result; it never changes but for its aliases."""

    model: str
    version: int
    aliases: tuple[str, ...]
    format: str
    description: str
    artifact: uuid.UUID | None
    """None = it was imported."""
    manifest: bytes
    """The artifact's manifest; `files` are what counts."""
    files: tuple[StoredFile, ...]
    size_bytes: int
    create_time: datetime.datetime

    @property
    def name(self) -> str:
        """Resource name."""
        return f"models/{self.model}/versions/{self.version}"


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetShare:
    """A dataset that went into an artifact."""

    name: str
    sha256: str
    weight: float
    """How often one pass saw each of its rows."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lineage:
    """What a manifest tells of an artifact's origin, as far as a model card says it."""

    task: str
    step: int
    base_model: str
    base_model_revision: str
    dataset_sha256: str
    metrics: Mapping[str, float]
    hyperparameters: Mapping[str, str]
    versions: Mapping[str, str]
    datasets: tuple["DatasetShare", ...] = ()
    """What it was trained on, dataset by dataset."""
    parent: str = ""
    """The artifact that an export made it from; empty = it is what its task has trained."""


MADE_BY_TASKS = ("MERGED", "GGUF")
"""Formats that a task of kind export makes of others."""

_FORMATS = ("ADAPTER", "MODEL", *MADE_BY_TASKS)


def fitting_format(draft: ExportDraft, artifact: str, kind: str) -> str:
    """The format in which an artifact of that kind is exported; raises ServiceError (EXPORT_FORMAT_UNFIT) for any other."""
    if draft.format in ("", kind) and kind in _FORMATS:
        return kind
    message, hint = f"{artifact} is of kind {kind} and cannot be exported as {draft.format or 'a model'}", ""
    if draft.format in MADE_BY_TASKS and kind not in MADE_BY_TASKS:
        command = f"tunesmith artifact export {artifact} {draft.model} --format {draft.format.lower()}"
        hint = f"A task of kind export makes it of {artifact}, format {draft.format}; then export its result. In one: {command}"
    elif kind == "CHECKPOINT":
        message = f"{artifact} is a checkpoint: it continues a task, and is no model by itself"
        hint = "Export the result of the task, or start a task from the checkpoint: tunesmith task create --from."
    raise ServiceError("EXPORT_FORMAT_UNFIT", message, hint=hint, metadata={"resource": artifact, "kind": kind})


def same_export(version: ModelVersion, draft: ExportDraft) -> ModelVersion:
    """The version when the draft asks for it again; raises ServiceError (REQUEST_ID_REUSED) when it asks for another."""
    if version.artifact != draft.artifact or draft.format not in ("", version.format):
        what = f"exported artifacts/{version.artifact}" if version.artifact else "imported other files"
        message = f"request_id {draft.request_id!r} of models/{draft.model} has {what} before"
        raise ServiceError("REQUEST_ID_REUSED", message, metadata={"resource": version.name})
    return version
