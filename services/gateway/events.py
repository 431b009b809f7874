"""/v1/fine_tuning/jobs/{id}/events and /metrics: pages newest first, and both as streams that resume."""

import contextlib
from collections.abc import AsyncGenerator

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.gateway import bodies, identifiers, lists, sse
from services.gateway.event_conversion import KINDS, EventConversion, metrics_data, number
from services.gateway.job_conversion import JobConversion
from services.gateway.jobs import Jobs
from services.gateway.peers import Peers
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1.task_event_pb2 import TaskEvent
from tunesmith.v1.task_pb2 import Task

_DEFAULT_LIMIT, _LONGEST_LIST, _WINDOW = 20, 1000, 1000
_MAX_POINTS = 2000


class Events:
    """The resource; `jobs` finds the task of a path."""

    def __init__(self, peers: Peers, jobs: Jobs, conversion: JobConversion) -> None:
        self._peer = peers.task_manager
        self._tasks = peers.tasks
        self._jobs = jobs
        self._conversion = conversion

    async def index(self, request: Request) -> Response:
        """GET: a page, newest first; with `stream=true` every event after Last-Event-ID as it comes."""
        task = await self._jobs.task(request)
        convert = EventConversion(task, self._conversion)
        if _wants_stream(request):
            return await sse.respond(request, self._watch(task, sse.last_sequence(request), convert))
        limit = bodies.whole_number(request, "limit", _DEFAULT_LIMIT, _LONGEST_LIST)
        before = self._cursor(request.query_params.get("after", ""), task)
        events, has_more = await lists.take(self._backwards(task, before), limit)
        return JSONResponse(lists.page_of([convert.event(event) for event in events], has_more=has_more))

    async def metrics(self, request: Request) -> Response:
        """GET: the history, thinned out; with `stream=true` every point after Last-Event-ID as it comes."""
        task = await self._jobs.task(request)
        if _wants_stream(request):
            return await sse.respond(request, self._points(task, sse.last_sequence(request)))
        limit = bodies.whole_number(request, "limit", 500, _MAX_POINTS)
        history = await self._peer.call(self._tasks.ListMetrics, api.ListMetricsRequest(name=task.name, max_points=limit))
        series = [
            {
                "id": each.metric,
                "object": "fine_tuning.job.metric",
                "sample_count": each.sample_count,
                "samples": [{"step": sample.step, "value": number(sample.value)} for sample in each.samples],
            }
            for each in history.series
        ]
        return JSONResponse({**lists.page_of(series, has_more=False), "head_sequence": history.head_sequence})

    def _cursor(self, after: str, task: Task) -> int:
        """The number before which the page begins: numbers are dense, so what is new shifts nothing."""
        if not after:
            return task.head_sequence + 1
        sequence = identifiers.event_sequence(after, task.name)
        if sequence is None or sequence > task.head_sequence:
            raise lists.unknown_cursor(after)
        return sequence

    async def _backwards(self, task: Task, before: int) -> AsyncGenerator[TaskEvent]:
        """Events numbered below `before`, newest first, read in windows."""
        while before > 1:
            first = max(1, before - _WINDOW)
            for event in reversed(await self._between(task, first, before)):
                yield event
            before = first

    async def _between(self, task: Task, first: int, before: int) -> list[TaskEvent]:
        """Events from number `first` to the one below `before`."""
        found: list[TaskEvent] = []
        after = first - 1
        while True:
            request = api.ListEventsRequest(name=task.name, after_sequence=after, page_size=_WINDOW, kinds=KINDS)
            page = await self._peer.call(self._tasks.ListEvents, request)
            found += [event for event in page.events if event.sequence < before]
            after = page.next_after_sequence
            if not after or after >= before - 1:
                return found

    async def _watch(self, task: Task, after: int, convert: EventConversion) -> AsyncGenerator[str]:
        request = api.WatchTaskRequest(name=task.name, after_sequence=after, kinds=KINDS)
        async with contextlib.aclosing(self._peer.stream(self._tasks.WatchTask, request, _NO_DEADLINE)) as stream:
            async for message in stream:
                for event in message.events:
                    yield sse.event(convert.event(event), event.sequence)
                if control := _control(message):
                    yield control

    async def _points(self, task: Task, after: int) -> AsyncGenerator[str]:
        request = api.StreamMetricsRequest(name=task.name, after_sequence=after)
        async with contextlib.aclosing(self._peer.stream(self._tasks.StreamMetrics, request, _NO_DEADLINE)) as stream:
            async for message in stream:
                for point in message.points:
                    data = {**metrics_data(point.step, point.values), "sequence": point.sequence, "attempt": point.attempt}
                    yield sse.event(
                        {"object": "fine_tuning.job.metrics", "created_at": point.time.seconds, **data}, point.sequence
                    )
                if control := _control(message):
                    yield control


# A stream lasts as long as its task: weeks, in doubt.
_NO_DEADLINE = 30 * 86_400.0


def point_data(point: api.MetricPoint) -> dict[str, object]:
    """The data of one event of the metric stream."""
    head = {"object": "fine_tuning.job.metrics", "created_at": point.time.seconds}
    return {**head, **metrics_data(point.step, point.values), "sequence": point.sequence, "attempt": point.attempt}


def _wants_stream(request: Request) -> bool:
    return bodies.choice(request, "stream", "false", ("true", "false")) == "true"


def _control(message: api.WatchTaskResponse | api.StreamMetricsResponse) -> str | None:
    """What stands for a control message: comments keep the connection alive, [DONE] says that all has been told."""
    match message.WhichOneof("control"):
        case "end":
            return sse.DONE
        case "header" | "heartbeat":
            return sse.KEEP_ALIVE
        case _:
            return None
