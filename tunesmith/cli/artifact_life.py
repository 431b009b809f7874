"""How long an artifact is kept, in words; used by every command that shows one."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tunesmith.cli.output import time_left, when

if TYPE_CHECKING:
    from tunesmith.client import Client
    from tunesmith.v1.artifact_pb2 import Artifact
    from tunesmith.v1.artifact_service_pb2 import ArtifactNotice, SweepArtifactsResponse


def life(artifact: "Artifact", now: datetime) -> str:
    """`expires in 3 d`, `pinned`, `expired, restorable until 2026-01-19 00:00`, `deleted 2026-01-19 00:00`."""
    from tunesmith.v1.artifact_pb2 import Artifact

    if artifact.state == Artifact.EXPIRED:
        is_over = artifact.delete_time.ToDatetime(tzinfo=UTC) <= now
        return "expired" if is_over else f"expired, restorable until {when(artifact.delete_time)}"
    if artifact.state == Artifact.DELETED:
        return f"deleted {when(artifact.delete_time)}"
    if artifact.state != Artifact.AVAILABLE:
        return Artifact.State.Name(artifact.state).lower()
    if artifact.pinned:
        return "pinned"
    left = time_left(artifact.expire_time, now)
    return "in use" if left == "over" else f"expires in {left}"


def kept(artifact: "Artifact", now: datetime) -> str:
    """`expires in 3 d (2026-01-19 00:00)`, `pinned; once unpinned it expires in 3 d (2026-01-19 00:00)`, else as `life`."""
    from tunesmith.v1.artifact_pb2 import Artifact

    words = life(artifact, now)
    if artifact.state != Artifact.AVAILABLE or words == "in use":
        return words
    left = time_left(artifact.expire_time, now)
    if artifact.pinned:
        words = "pinned; once unpinned it expires " + ("at once" if left == "over" else f"in {left}")
    return f"{words} ({when(artifact.expire_time)})"


def days_left(notice: "ArtifactNotice | SweepArtifactsResponse.Notice") -> str:
    """`3 days left, expires 2026-01-19 00:00`, of an announcement."""
    return f"{notice.days} {'day' if notice.days == 1 else 'days'} left, expires {when(notice.expire_time)}"


def kept_of(client: "Client", name: str, task: str) -> str:
    """As `kept`, of an artifact of a task, whether it has ended or not; empty when storage has nothing to say."""
    from tunesmith.errors import TunesmithError

    try:
        found = client.list_artifacts(task, states=("AVAILABLE", "EXPIRED", "DELETED"))
        return next((kept(artifact, datetime.now(UTC)) for artifact in found if artifact.name == name), "")
    except TunesmithError:
        return ""
