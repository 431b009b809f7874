"""The kinds this server runs, by the spec's fields; used by creation and retrying."""

from collections.abc import Sequence

from services.task_manager.kinds.work import Work, WorkKind
from tunesmith.v1 import task_spec_pb2


class Kinds:
    """Made in `__main__`."""

    def __init__(self, kinds: Sequence[WorkKind]) -> None:
        self._kinds = {each.kind.field: each for each in kinds}
        self.known = " or ".join(self._kinds)
        """What a spec may hold, for people."""

    def read(self, spec: task_spec_pb2.TaskSpec) -> Work | None:
        """What the spec asks for, unchecked; None when it is of no kind that is known here."""
        known = self._kinds.get(spec.WhichOneof("kind") or "")
        return known.read(spec) if known else None
