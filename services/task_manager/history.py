"""Reads back what is stored of a task's events: pages of events and thinned out metrics; used by the servicer."""

import datetime

from services.common.errors import InvalidArgument, Violation
from services.common.paging import page_size
from services.task_manager.domain.metric_names import MetricNames
from services.task_manager.domain.metrics_history import Sample, SeriesThinner
from services.task_manager.domain.task import Task
from services.task_manager.event_log import EventLog
from services.task_manager.stream_messages import wants_events
from services.task_manager.times import to_duration
from services.task_manager.watch import check_not_negative
from tunesmith.v1 import task_event_pb2
from tunesmith.v1 import task_manager_service_pb2 as api

_EVENTS_PER_PAGE = 100
_DEFAULT_POINTS = 500
_MAX_POINTS = 2000


class History:
    """Raises Unavailable when Postgres is away."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def events(self, task: Task, request: api.ListEventsRequest) -> api.ListEventsResponse:
        """A page of events; raises InvalidArgument."""
        check_not_negative(request.after_sequence)
        limit, wanted = page_size(request.page_size, default=_EVENTS_PER_PAGE), wants_events(request)
        head = (await self._log.snapshot(task.id)).head_sequence
        found: list[task_event_pb2.TaskEvent] = []
        cursor = request.after_sequence
        # One more than asked for is looked for: it tells whether this page is the last.
        while cursor < head and len(found) <= limit and (page := await self._log.page(task.id, cursor)):
            found += filter(wanted, page)
            cursor = page[-1].sequence
        more = found[limit - 1].sequence if len(found) > limit else 0
        return api.ListEventsResponse(events=found[:limit], next_after_sequence=more, head_sequence=head)

    async def metrics(self, task: Task, request: api.ListMetricsRequest) -> api.ListMetricsResponse:
        """Every wanted metric, thinned out; raises InvalidArgument."""
        max_points = _max_points(request.max_points)
        wanted = MetricNames(request.metrics)
        series: dict[str, SeriesThinner] = {}
        cursor, head = 0, (await self._log.snapshot(task.id)).head_sequence
        while cursor < head and (page := await self._log.page(task.id, cursor)):
            for event in page:
                for name, value in event.step_metrics.values.items() if event.HasField("step_metrics") else ():
                    if name in wanted:
                        series.setdefault(name, SeriesThinner(max_points)).add(_sample(event, value, task.create_time))
            cursor = page[-1].sequence
        messages = [_series(name, thinner) for name, thinner in sorted(series.items())]
        return api.ListMetricsResponse(series=messages, head_sequence=cursor)


def _max_points(requested: int) -> int:
    if requested < 0:
        raise InvalidArgument(Violation("max_points", f"{requested} is negative; use 0 for the default"))
    return min(requested or _DEFAULT_POINTS, _MAX_POINTS)


def _sample(event: task_event_pb2.TaskEvent, value: float, created: datetime.datetime) -> Sample:
    elapsed = event.time.ToDatetime(datetime.UTC) - created
    return Sample(event.sequence, event.step_metrics.step, value, max(elapsed, datetime.timedelta()))


def _series(name: str, thinner: SeriesThinner) -> api.MetricSeries:
    samples = [api.MetricSample(step=one.step, value=one.value, elapsed=to_duration(one.elapsed)) for one in thinner.samples()]
    return api.MetricSeries(metric=name, samples=samples, sample_count=thinner.sample_count)
