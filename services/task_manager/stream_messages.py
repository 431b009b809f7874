"""The three flavours of the watch stream: which events each wants and what its messages look like; used by the servicer."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from services.task_manager.conversion import end_to_proto, header_to_proto
from services.task_manager.domain.metric_names import MetricNames
from services.task_manager.log_selection import wants_entries
from services.task_manager.times import to_timestamp
from services.task_manager.watch import End, Events, Header, Item, Wanted
from tunesmith.v1 import task_event_pb2
from tunesmith.v1 import task_manager_service_pb2 as api

Response = TypeVar("Response", api.WatchTaskResponse, api.StreamMetricsResponse, api.StreamLogsResponse)


def wants_kinds(kinds: Iterable[int]) -> Wanted:
    """Events of these kinds; none = all."""
    names = task_event_pb2.TaskEvent.Kind.DESCRIPTOR.values_by_number
    fields = {names[kind].name.lower() if kind in names else "" for kind in kinds if kind}
    return lambda event: not fields or event.WhichOneof("event") in fields


def wants_events(request: api.ListEventsRequest) -> Wanted:
    """Events of the kinds asked for, and of the log entries those that match; raises InvalidArgument."""
    of_kind, entries = wants_kinds(request.kinds), wants_entries(request.logs, "logs.")
    return lambda event: of_kind(event) and (not event.HasField("log_entry") or entries(event.log_entry))


def wants_metrics(names: Iterable[str]) -> Wanted:
    """Metric events that have one of these metrics; none = all."""
    wanted = MetricNames(names)
    return lambda event: event.HasField("step_metrics") and any(name in wanted for name in event.step_metrics.values)


def wants_logs(request: api.StreamLogsRequest) -> Wanted:
    """Log events that match; raises InvalidArgument."""
    given = api.LogFilter(
        min_severity=request.min_severity, ranks=request.ranks, contains=request.contains, pattern=request.pattern
    )
    entries = wants_entries(given)
    return lambda event: event.HasField("log_entry") and entries(event.log_entry)


def watch_response(item: Item) -> api.WatchTaskResponse:
    """A message of WatchTask."""
    return api.WatchTaskResponse(events=item.events) if isinstance(item, Events) else _control(api.WatchTaskResponse, item)


def metrics_response(names: Iterable[str]) -> Callable[[Item], api.StreamMetricsResponse]:
    """Makes messages of StreamMetrics that hold only these metrics; none = all."""
    wanted = MetricNames(names)

    def convert(item: Item) -> api.StreamMetricsResponse:
        if isinstance(item, Events):
            return api.StreamMetricsResponse(points=[_point(event, wanted) for event in item.events])
        return _control(api.StreamMetricsResponse, item)

    return convert


def logs_response(item: Item) -> api.StreamLogsResponse:
    """A message of StreamLogs."""
    if isinstance(item, Events):
        return api.StreamLogsResponse(lines=[_line(event) for event in item.events])
    return _control(api.StreamLogsResponse, item)


def _control(cls: type[Response], item: Any) -> Response:
    if isinstance(item, Header):
        return cls(header=header_to_proto(item.snapshot))
    if isinstance(item, End):
        return cls(end=end_to_proto(item.snapshot))
    return cls(heartbeat=task_event_pb2.Heartbeat(head_sequence=item.head_sequence, time=to_timestamp(item.time)))


def _point(event: task_event_pb2.TaskEvent, wanted: MetricNames) -> api.MetricPoint:
    values = {name: value for name, value in event.step_metrics.values.items() if name in wanted}
    return api.MetricPoint(
        sequence=event.sequence, time=event.time, step=event.step_metrics.step, values=values, attempt=event.attempt
    )


def _line(event: task_event_pb2.TaskEvent) -> api.LogLine:
    return api.LogLine(sequence=event.sequence, time=event.time, entry=event.log_entry, attempt=event.attempt)
