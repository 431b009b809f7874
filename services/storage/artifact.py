"""Domain values of artifacts; used by the upload, the repository and the servicer."""

import dataclasses
import datetime
import uuid

from services.storage.checkpoint_retention import CheckpointFacts
from services.storage.file import File, StoredFile
from services.storage.retention import AVAILABLE, Life


@dataclasses.dataclass(frozen=True, slots=True)
class ArtifactDraft:
    """An artifact a runner wants to store; its row does not exist yet."""

    id: uuid.UUID
    kind: str
    """Name of the kind, for example ADAPTER."""
    task: uuid.UUID
    epoch: int
    request_id: str
    manifest: bytes
    """The manifest as the caller serialised it; opaque here, so that fields of newer callers survive."""
    files: tuple[File, ...]
    retention: datetime.timedelta | None = None
    """How long it is kept from its commit; None = by the policy."""
    checkpoint: CheckpointFacts | None = None
    """Of a checkpoint: what decides how long it and those before it are kept."""

    @property
    def size_bytes(self) -> int:
        """Size of all files."""
        return sum(file.size_bytes for file in self.files)


@dataclasses.dataclass(frozen=True, slots=True)
class Artifact:
    """A stored artifact, complete and verified."""

    id: uuid.UUID
    kind: str
    task: uuid.UUID
    manifest: bytes
    files: tuple[StoredFile, ...]
    size_bytes: int
    create_time: datetime.datetime
    life: Life
    state: str
    """Place in the life cycle when it was read."""
    delete_time: datetime.datetime | None
    """Once expired: until when it can be restored, at least; once deleted: when that was decided."""

    @property
    def expire_time(self) -> datetime.datetime:
        """When it comes to its end, unless it is pinned or in use."""
        return self.life.expire_time

    @property
    def name(self) -> str:
        """Resource name."""
        return artifact_name(self.id)


@dataclasses.dataclass(frozen=True, slots=True)
class ArtifactFilter:
    """Which artifacts a list holds; None = any."""

    task: uuid.UUID | None = None
    states: tuple[str, ...] = (AVAILABLE,)
    kind: str | None = None
    expiring_before: datetime.datetime | None = None


EVERYTHING_AVAILABLE = ArtifactFilter()


def artifact_name(identifier: uuid.UUID) -> str:
    """Resource name of an artifact."""
    return f"artifacts/{identifier}"
