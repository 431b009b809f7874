"""Conditions on tasks from plain values; used by `Client.list_tasks` and `Client.watch_tasks`."""

import datetime
from collections.abc import Mapping, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from tunesmith.names import enum_value, resource_name
from tunesmith.v1.task_manager_service_pb2 import TaskFilter
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import FineTuning, TaskSpec


def task_filter(
    *,
    states: Sequence[Task.State.ValueType] = (),
    text: str = "",
    base_model: str = "",
    methods: Sequence[str] = (),
    tunings: Sequence[str] = (),
    kinds: Sequence[str] = (),
    creator: str = "",
    labels: Mapping[str, str] | None = None,
    from_create_time: datetime.datetime | None = None,
    before_create_time: datetime.datetime | None = None,
) -> TaskFilter:
    """Every condition that is given must hold; `text` is looked for in name and description; times without zone are local.

    Raises:
        InvalidArgument: METHOD_UNKNOWN, TUNING_UNKNOWN, KIND_UNKNOWN, NAME_INVALID.
    """
    return TaskFilter(
        states=states,
        text=text,
        base_model=resource_name("baseModels", base_model) if base_model else "",
        methods=[enum_value(FineTuning.Method, method, "METHOD_UNKNOWN") for method in methods],
        tunings=[enum_value(FineTuning.Tuning, tuning, "TUNING_UNKNOWN") for tuning in tunings],
        kinds=[enum_value(TaskSpec.Kind, kind, "KIND_UNKNOWN") for kind in kinds],
        creator=creator,
        labels=labels,
        from_create_time=timestamp(from_create_time),
        before_create_time=timestamp(before_create_time),
    )


def timestamp(time: datetime.datetime | None) -> Timestamp | None:
    """The message; None stays absent, a time without zone is local."""
    if time is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(time.astimezone(datetime.UTC))
    return stamp
