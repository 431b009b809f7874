"""Announcements and the scrubber's findings between protos and domain values; used by the artifact servicer."""

import uuid
from collections.abc import Sequence

from services.common.errors import Violation
from services.common.names import resource_uuid
from services.storage.artifact import artifact_name
from services.storage.artifact_conversion import timestamp
from services.storage.notice import Notice
from services.storage.request_fields import refuse
from services.storage.scrub import Damage, ScrubStatus
from tunesmith.v1 import artifact_service_pb2

_Kind = artifact_service_pb2.ArtifactNotice.Kind


def checked_sequence(after: int) -> int:
    """The number after which a reader goes on; raises InvalidArgument."""
    if after < 0:
        refuse([Violation("after_sequence", f"{after} is negative")])
    return after


def optional_task(name: str) -> uuid.UUID | None:
    """The task of a filter, None = any; raises InvalidArgument."""
    return resource_uuid(name, "tasks", "task") if name else None


def to_notices(notices: Sequence[Notice], after: int) -> artifact_service_pb2.ListArtifactNoticesResponse:
    """Announcements as callers see them; `after` is the number they asked with."""
    last = notices[-1].sequence if notices else after
    return artifact_service_pb2.ListArtifactNoticesResponse(notices=map(_to_notice, notices), last_sequence=last)


def _to_notice(notice: Notice) -> artifact_service_pb2.ArtifactNotice:
    return artifact_service_pb2.ArtifactNotice(
        sequence=notice.sequence,
        kind=_Kind.Value(notice.kind),
        artifact=artifact_name(notice.artifact),
        task=f"tasks/{notice.task}",
        days=notice.days,
        expire_time=timestamp(notice.expire_time),
        path=notice.path,
        damage=notice.damage,
        create_time=timestamp(notice.create_time),
    )


def to_storage_check(status: ScrubStatus) -> artifact_service_pb2.StorageCheck:
    """How far the scrubber is, as operators see it."""
    return artifact_service_pb2.StorageCheck(
        content_count=status.content_count,
        size_bytes=status.size_bytes,
        oldest_check_time=timestamp(status.oldest_check_time),
        overdue_bytes=status.overdue_bytes,
        damages=map(_to_damage, status.damages),
    )


def _to_damage(damage: Damage) -> artifact_service_pb2.StorageCheck.Damage:
    return artifact_service_pb2.StorageCheck.Damage(
        sha256=damage.sha256,
        size_bytes=damage.size_bytes,
        damage=damage.damage,
        check_time=timestamp(damage.check_time),
        owners=damage.owners,
    )
