"""From the conditions of a request to the domain's filter; used by ListTasks and WatchTasks."""

import dataclasses
import datetime
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from google.protobuf import timestamp_pb2

from services.common.errors import InvalidArgument, Violation
from services.common.names import base_model_id, registered_name, resource_uuid
from services.task_manager.conversion import state_from_proto
from services.task_manager.domain.task import State
from services.task_manager.domain.task_filter import TaskFilter
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1 import task_spec_pb2

_ID_PREFIX = re.compile("[0-9a-f]{1,32}")
_MAX_ARTIFACTS = 100


def filter_of_list(request: api.ListTasksRequest) -> TaskFilter:
    """The conditions of a ListTasks request, its own and those in `filter`; raises InvalidArgument naming every bad field."""
    bad = [*_nul("display_name_contains", request.display_name_contains), *_unknown_states("states", request.states)]
    if bad:
        raise InvalidArgument(*bad)
    wanted = filter_from_proto(request.filter)
    states = _states(request.states)
    if states and wanted.states:
        raise InvalidArgument(Violation("filter.states", "is given beside states; use one of the two"))
    return dataclasses.replace(
        wanted,
        states=states or wanted.states,
        display_name_contains=request.display_name_contains,
        dataset=resource_uuid(request.dataset, "datasets", "dataset") if request.dataset else None,
        origin_artifacts=tuple(_artifacts(request.initial_artifacts)),
    )


def filter_from_proto(given: api.TaskFilter) -> TaskFilter:
    """The conditions; raises InvalidArgument naming every bad field below `filter`."""
    if bad := list(_violations(given)):
        raise InvalidArgument(*bad)
    return TaskFilter(
        states=_states(given.states),
        text=given.text,
        base_model=f"baseModels/{base_model_id(given.base_model, 'filter.base_model')}" if given.base_model else "",
        methods=tuple(sorted(map(task_spec_pb2.FineTuning.Method.Name, given.methods))),
        tunings=tuple(sorted(map(task_spec_pb2.FineTuning.Tuning.Name, given.tunings))),
        kinds=tuple(sorted(map(task_spec_pb2.TaskSpec.Kind.Name, given.kinds))),
        labels=dict(sorted(given.labels.items())),
        ids=_ids(given.id_prefix),
        creator=given.creator,
        from_create_time=_time(given, "from_create_time"),
        before_create_time=_time(given, "before_create_time"),
    )


def time_of(stamp: timestamp_pb2.Timestamp, field: str) -> datetime.datetime:
    """The moment; raises InvalidArgument naming `field` for one that no calendar has."""
    try:
        return stamp.ToDatetime(datetime.UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument(Violation(field, "is not a time between the years 1 and 9999")) from None


def _artifacts(names: Sequence[str]) -> Iterator[str]:
    if len(names) > _MAX_ARTIFACTS:
        raise InvalidArgument(Violation("initial_artifacts", f"{len(names)} names are too many; at most {_MAX_ARTIFACTS}"))
    for index, name in enumerate(names):
        yield _origin(name, f"initial_artifacts[{index}]")


def _origin(name: str, field: str) -> str:
    """The name under which a task keeps it; raises InvalidArgument."""
    if not name.startswith("models/"):
        return f"artifacts/{resource_uuid(name, 'artifacts', field)}"
    registered = registered_name(name, field)
    if registered.version is None:
        raise InvalidArgument(Violation(field, f"{name[:80]!r} names no version by its number"), reason="INVALID_NAME")
    return f"models/{registered.model}/versions/{registered.version}"


def _violations(given: api.TaskFilter) -> Iterator[Violation]:
    yield from _unknown_states("filter.states", given.states)
    yield from _unknown("filter.methods", given.methods, task_spec_pb2.FineTuning.Method, "method")
    yield from _unknown("filter.tunings", given.tunings, task_spec_pb2.FineTuning.Tuning, "tuning")
    yield from _unknown("filter.kinds", given.kinds, task_spec_pb2.TaskSpec.Kind, "kind of task")
    yield from _nul("filter.text", given.text)
    yield from _nul("filter.creator", given.creator)
    if given.id_prefix and not _ID_PREFIX.fullmatch(given.id_prefix):
        yield Violation("filter.id_prefix", "is not 1 to 32 digits 0-9 and a-f")
    for key, value in sorted(given.labels.items()):
        yield from _nul(f"filter.labels[{key[:80]!r}]", key + value)


def _ids(prefix: str) -> tuple[uuid.UUID, uuid.UUID] | None:
    return (uuid.UUID(prefix.ljust(32, "0")), uuid.UUID(prefix.ljust(32, "f"))) if prefix else None


def _unknown_states(field: str, numbers: Sequence[int]) -> Iterator[Violation]:
    for index, number in enumerate(numbers):
        if state_from_proto(number) is None:
            yield Violation(f"{field}[{index}]", "is not a state")


def _unknown(field: str, numbers: Sequence[int], enum: Any, what: str) -> Iterator[Violation]:
    for index, number in enumerate(numbers):
        if number == 0 or number not in enum.values():
            yield Violation(f"{field}[{index}]", f"is not a {what}")


def _states(numbers: Iterable[int]) -> tuple[State, ...]:
    found = {state for state in map(state_from_proto, numbers) if state}
    return tuple(sorted(found, key=lambda state: state.value))


def _nul(field: str, text: str) -> Iterator[Violation]:
    if "\0" in text:
        yield Violation(field, "contains the character NUL")


def _time(given: api.TaskFilter, name: Literal["from_create_time", "before_create_time"]) -> datetime.datetime | None:
    return time_of(getattr(given, name), f"filter.{name}") if given.HasField(name) else None
