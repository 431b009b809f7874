"""How long what fine-tunings make is kept by their project, where the task itself does not say; used when a task is created.

Whose project sets nothing is kept as storage keeps everything.
"""

import datetime
from collections.abc import Mapping, Sequence

from services.common.config import parse_duration
from services.task_manager.domain.fine_tuning import MAX_RETENTION, MIN_RETENTION
from tunesmith.v1 import task_spec_pb2


def parse_retentions(entries: Sequence[str]) -> Mapping[str, datetime.timedelta]:
    """Entries `project=30d`; raises ValueError that names the first bad one."""
    found: dict[str, datetime.timedelta] = {}
    for entry in entries:
        project, _, text = entry.rpartition("=")
        try:
            kept = parse_duration(text)
        except ValueError:
            kept = datetime.timedelta(0)
        if not project or not MIN_RETENTION <= kept.total_seconds() <= MAX_RETENTION:
            raise ValueError(f"{entry!r}: expected a project and a duration from 1 hour to 365 days, such as lab=30d")
        if project in found:
            raise ValueError(f"{entry!r}: the project {project} comes twice")
        found[project] = kept
    return found


class ProjectRetention:
    """Retentions by project, which the label `project` of a task names."""

    def __init__(self, retentions: Mapping[str, datetime.timedelta]) -> None:
        self._retentions = retentions

    def applied(self, spec: bytes, labels: Mapping[str, str]) -> bytes:
        """The stored spec of a task with these labels, with the retention of its project."""
        kept = self._retentions.get(labels.get("project", ""))
        if kept is None:
            return spec
        message = task_spec_pb2.TaskSpec.FromString(spec)
        if message.WhichOneof("kind") != "fine_tuning" or message.fine_tuning.HasField("artifact_retention"):
            return spec
        message.fine_tuning.artifact_retention.FromTimedelta(datetime.timedelta(seconds=int(kept.total_seconds())))
        return message.SerializeToString(deterministic=True)
