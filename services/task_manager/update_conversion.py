"""From an UpdateTask request to what is to be changed; used by the servicer."""

from services.common.errors import InvalidArgument, Violation
from services.task_manager.domain.task import TaskUpdate
from services.task_manager.domain.validation import check_update
from tunesmith.v1 import task_manager_service_pb2 as api

_CHANGEABLE = ("display_name", "description", "labels", "priority")


def update_from_proto(request: api.UpdateTaskRequest) -> TaskUpdate:
    """The values that the mask names; raises InvalidArgument with every violation."""
    paths = request.update_mask.paths
    if not paths:
        raise InvalidArgument(Violation("update_mask", f"is required; name what to change: {', '.join(_CHANGEABLE)}"))
    bad = [path for path in paths if path not in _CHANGEABLE]
    if bad:
        violations = (f"{path[:80]!r} cannot be changed; {', '.join(_CHANGEABLE)} can" for path in bad)
        raise InvalidArgument(*(Violation("update_mask", text) for text in violations))
    update = TaskUpdate(
        display_name=request.task.display_name if "display_name" in paths else None,
        description=request.task.description if "description" in paths else None,
        labels=dict(request.task.labels) if "labels" in paths else None,
        priority=request.task.priority if "priority" in paths else None,
    )
    check_update(update)
    return update
