"""Verbs on tasks; part of `tunesmith.Client`."""

import datetime
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from tunesmith import hyperparameters as hp
from tunesmith.connection import PLAN_SECONDS, Connections
from tunesmith.names import enum_value, resource_name
from tunesmith.streams import ResumingStream
from tunesmith.task_changes import task_changes
from tunesmith.task_filter import task_filter, timestamp
from tunesmith.v1.task_event_pb2 import LogEntry, TaskEvent
from tunesmith.v1.task_manager_service_pb2 import (
    CancelTaskRequest,
    CreateTaskRequest,
    DeleteTaskRequest,
    DiffTasksRequest,
    DiffTasksResponse,
    GetTaskRequest,
    ListEventsRequest,
    ListMetricsRequest,
    ListMetricsResponse,
    ListTasksRequest,
    ListTuningsRequest,
    ListTuningsResponse,
    LogFilter,
    LogLine,
    MetricPoint,
    PauseTaskRequest,
    PlanTaskRequest,
    ResumeTaskRequest,
    StreamLogsRequest,
    StreamMetricsRequest,
    TaskPlan,
    UpdateTaskRequest,
    WatchTaskRequest,
    WatchTasksRequest,
    WatchTasksResponse,
)
from tunesmith.v1.task_manager_service_pb2_grpc import TaskManagerServiceStub
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import FineTuning, Hyperparameters, TaskSpec, WeightedDataset

Interruption = Callable[[int], None]
"""Called before every reconnect with the attempts made since the last answer."""


class AtLeast(int):
    """A number that was not counted to the end: there are so many or more. Shown as `1,000+`."""

    def __str__(self) -> str:
        return f"{int(self):,}+"


class TaskVerbs(Connections):
    """Long-running work: create, look at, follow, end."""

    def create_task(self, task: Task | None = None, *, request_id: str | None = None, **description: Any) -> Task:
        """Queue a task: either a Task as the contract has it, or `description` as `describe_task` takes it.

        Raises:
            InvalidArgument: every bad field is a violation. NotFound: the dataset or base model does not exist.
        """
        request = CreateTaskRequest(task=task or describe_task(**description), request_id=request_id or str(uuid.uuid4()))
        return self.connection("task_manager").call(self._tasks.CreateTask, request)

    def plan_task(self, task: Task | None = None, **description: Any) -> TaskPlan:
        """What `create_task` would do, without doing it; same arguments, same errors."""
        request = PlanTaskRequest(task=task or describe_task(**description))
        return self.connection("task_manager").call(self._tasks.PlanTask, request, PLAN_SECONDS)

    def list_tunings(self, base_model: str) -> ListTuningsResponse:
        """What a base model can be tuned with, by method and tuning, and how much memory that takes."""
        request = ListTuningsRequest(base_model=resource_name("baseModels", base_model))
        return self.connection("task_manager").call(self._tasks.ListTunings, request)

    def get_task(self, name: str) -> Task:
        """One task."""
        request = GetTaskRequest(name=resource_name("tasks", name))
        return self.connection("task_manager").call(self._tasks.GetTask, request)

    def list_tasks(
        self,
        states: Sequence[Task.State.ValueType] = (),
        display_name_contains: str = "",
        page_size: int = 0,
        **conditions: Any,
    ) -> Iterator[Task]:
        """Tasks, newest first; `conditions` as in `task_filter`."""
        request = ListTasksRequest(page_size=page_size, states=states, display_name_contains=display_name_contains)
        request.filter.CopyFrom(task_filter(**conditions))
        while True:
            page = self.connection("task_manager").call(self._tasks.ListTasks, request)
            yield from page.tasks
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def count_tasks(self, **conditions: Any) -> dict[Task.State.ValueType, int]:
        """Tasks by state, without states that have none; `conditions` as in `task_filter`.

        A number that was not counted to the end, since a filter finds many, is an `AtLeast`.
        """
        request = ListTasksRequest(page_size=1, filter=task_filter(**conditions), include_totals=True)
        page = self.connection("task_manager").call(self._tasks.ListTasks, request)
        return {total.state: (AtLeast if total.at_least else int)(total.task_count) for total in page.totals}

    def watch_tasks(self, on_interruption: Interruption = lambda attempts: None, **conditions: Any) -> Iterator[Task]:
        """Every task as it is each time it changes, from now on, without end; reconnects by itself.

        `conditions` as in `task_filter`. Changes in quick succession may come as one, a change may come twice, none is left out.
        """
        wanted = task_filter(**conditions)

        def connect(after: Timestamp | None) -> Iterator[WatchTasksResponse]:
            request = WatchTasksRequest(filter=wanted, after_time=after)
            return self.connection("task_manager").stream(self._tasks.WatchTasks, request)

        return task_changes(connect, on_interruption=on_interruption)

    def update_task(
        self,
        name: str,
        *,
        display_name: str | None = None,
        description: str | None = None,
        labels: Mapping[str, str] | None = None,
        priority: int | None = None,
    ) -> Task:
        """Change what people call a task, and its priority; None = stays, `labels` replace all of them."""
        given = {"display_name": display_name, "description": description, "labels": labels, "priority": priority}
        changed = {field: value for field, value in given.items() if value is not None}
        task = Task(name=resource_name("tasks", name), **changed)  # type: ignore[arg-type]
        mask = FieldMask(paths=changed)
        return self.connection("task_manager").call(self._tasks.UpdateTask, UpdateTaskRequest(task=task, update_mask=mask))

    def cancel_task(self, name: str, reason: str = "") -> Task:
        """Ask for the end of a task."""
        request = CancelTaskRequest(name=resource_name("tasks", name), reason=reason)
        return self.connection("task_manager").call(self._tasks.CancelTask, request)

    def pause_task(self, name: str, reason: str = "") -> Task:
        """Bring a task that starts or runs to rest with a checkpoint; `resume_task` goes on from there."""
        request = PauseTaskRequest(name=resource_name("tasks", name), reason=reason)
        return self.connection("task_manager").call(self._tasks.PauseTask, request)

    def resume_task(self, name: str) -> Task:
        """Queue a paused task again."""
        request = ResumeTaskRequest(name=resource_name("tasks", name))
        return self.connection("task_manager").call(self._tasks.ResumeTask, request)

    def delete_task(self, name: str, *, allow_missing: bool = False) -> None:
        """Remove a terminal task and its events; its artifacts stay until they expire."""
        request = DeleteTaskRequest(name=resource_name("tasks", name), allow_missing=allow_missing)
        self.connection("task_manager").call(self._tasks.DeleteTask, request)

    def diff_tasks(self, first: str, second: str) -> DiffTasksResponse:
        """What two tasks do not have in common: spec, effective hyperparameters, data, versions, results."""
        request = DiffTasksRequest(first=resource_name("tasks", first), second=resource_name("tasks", second))
        return self.connection("task_manager").call(self._tasks.DiffTasks, request)

    def wait(self, task: str | Task) -> Task:
        """The task once it is terminal. A failed task is an answer, not an error."""
        name = task if isinstance(task, str) else task.name
        for _ in self.watch_task(name, kinds=[TaskEvent.STATE_CHANGE]):
            pass
        return self.get_task(name)

    def watch_task(
        self,
        name: str,
        after_sequence: int = 0,
        kinds: Sequence[TaskEvent.Kind.ValueType] = (),
        on_interruption: Interruption = lambda attempts: None,
    ) -> ResumingStream[TaskEvent]:
        """Every event after the cursor, then the new ones until the end; reconnects by itself."""
        request = WatchTaskRequest(name=resource_name("tasks", name), kinds=kinds)
        return self._resuming(request, self._tasks.WatchTask, lambda r: r.events, after_sequence, on_interruption)

    def stream_metrics(
        self,
        name: str,
        after_sequence: int = 0,
        metrics: Sequence[str] = (),
        on_interruption: Interruption = lambda attempts: None,
    ) -> ResumingStream[MetricPoint]:
        """As `watch_task`, only metric points."""
        request = StreamMetricsRequest(name=resource_name("tasks", name), metrics=metrics)
        return self._resuming(request, self._tasks.StreamMetrics, lambda r: r.points, after_sequence, on_interruption)

    def stream_logs(
        self,
        name: str,
        after_sequence: int = 0,
        min_severity: LogEntry.Severity.ValueType = LogEntry.SEVERITY_UNSPECIFIED,
        ranks: Sequence[int] = (),
        on_interruption: Interruption = lambda attempts: None,
        *,
        contains: str = "",
        pattern: str = "",
    ) -> ResumingStream[LogLine]:
        """As `watch_task`, only log lines; `contains` is a text in any case, `pattern` a regular expression."""
        request = StreamLogsRequest(
            name=resource_name("tasks", name), min_severity=min_severity, ranks=ranks, contains=contains, pattern=pattern
        )
        return self._resuming(request, self._tasks.StreamLogs, lambda r: r.lines, after_sequence, on_interruption)

    def list_events(
        self,
        name: str,
        after_sequence: int = 0,
        kinds: Sequence[TaskEvent.Kind.ValueType] = (),
        logs: LogFilter | None = None,
    ) -> Iterator[TaskEvent]:
        """The events there are now, oldest first, of the log entries those that match `logs`; ends at the newest."""
        request = ListEventsRequest(
            name=resource_name("tasks", name), after_sequence=after_sequence, kinds=kinds, page_size=1000, logs=logs
        )
        while True:
            page = self.connection("task_manager").call(self._tasks.ListEvents, request)
            yield from page.events
            if not page.next_after_sequence:
                return
            request.after_sequence = page.next_after_sequence

    def list_metrics(self, name: str, metrics: Sequence[str] = (), max_points: int = 0) -> ListMetricsResponse:
        """The metric history, thinned out to at most `max_points` per metric (0 = 500)."""
        request = ListMetricsRequest(name=resource_name("tasks", name), metrics=metrics, max_points=max_points)
        return self.connection("task_manager").call(self._tasks.ListMetrics, request)

    def _resuming(
        self, request: Any, method: Any, items_of: Callable[[Any], Any], after_sequence: int, on_interruption: Interruption
    ) -> ResumingStream[Any]:
        def connect(cursor: int) -> Iterator[Any]:
            request.after_sequence = cursor
            return self.connection("task_manager").stream(method, request)

        return ResumingStream(connect, items_of, after_sequence, on_interruption=on_interruption)

    @property
    def _tasks(self) -> TaskManagerServiceStub:
        return self.connection("task_manager").stub(TaskManagerServiceStub)


def describe_task(
    *,
    name: str,
    base_model: str,
    dataset: str | None = None,
    mixture: Mapping[str, float | None] | None = None,
    validation_dataset: str | None = None,
    validation_split_ratio: float | None = None,
    evaluation_dataset: str | None = None,
    evaluation_checkpoints: bool = False,
    skip_evaluation: bool = False,
    sample_prompts: Sequence[str] = (),
    description: str = "",
    method: str = "sft",
    tuning: str = "lora",
    hyperparameters: Mapping[str, Any] | Hyperparameters | None = None,
    labels: Mapping[str, str] | None = None,
    priority: int = 0,
    initial_artifact: str = "",
    not_before_time: datetime.datetime | None = None,
    max_attempts: int = 0,
    artifact_retention: datetime.timedelta | None = None,
    runner_labels: Mapping[str, str] | None = None,
    creator: str = "",
) -> Task:
    """A Task of the contract from plain values; `name` is what people call it, `hyperparameters` as in `hyperparameters.build`.

    `initial_artifact` is what it starts from: `artifacts/ID`, `tasks/ID` (its result) or `tasks/ID@step-N` (a checkpoint).
    The training data is `dataset`, or a `mixture` of several, each with its weight (None = the server's default).
    On `evaluation_dataset` the result is compared with the base model, see `Task.evaluation_result`; with
    `evaluation_checkpoints` so are the kept checkpoints. With `skip_evaluation` validation data gives losses alone.
    What `sample_prompts` ask is answered while the model trains. A `not_before_time` without time zone is local;
    `max_attempts` 0 is the server's default. What the task makes is kept for `artifact_retention`, None = as the server keeps it.
    Only a runner that has all `runner_labels` takes it. `creator` is who asks for it, in words of your own.

    Raises:
        InvalidArgument: METHOD_UNKNOWN, TUNING_UNKNOWN, HYPERPARAMETER_UNKNOWN, NAME_INVALID.
    """
    numbers = hyperparameters if isinstance(hyperparameters, Hyperparameters) else hp.build(hyperparameters or {})
    spec = FineTuning(
        base_model=resource_name("baseModels", base_model),
        dataset=resource_name("datasets", dataset or "") if dataset or not mixture else "",
        mixture=_weighted(mixture or {}),
        validation_dataset=resource_name("datasets", validation_dataset) if validation_dataset else "",
        validation_split_ratio=validation_split_ratio,
        sample_prompts=sample_prompts,
        evaluation_dataset=resource_name("datasets", evaluation_dataset) if evaluation_dataset else "",
        evaluation_checkpoints=evaluation_checkpoints,
        skip_evaluation=skip_evaluation,
        method=enum_value(FineTuning.Method, method, "METHOD_UNKNOWN"),
        tuning=enum_value(FineTuning.Tuning, tuning, "TUNING_UNKNOWN"),
        hyperparameters=numbers,
        initial_artifact=initial_artifact,
        artifact_retention=_duration(artifact_retention),
    )
    whole = TaskSpec(fine_tuning=spec, runner_labels=runner_labels)
    queueing: dict[str, Any] = {"priority": priority, "not_before_time": timestamp(not_before_time), "max_attempts": max_attempts}
    return Task(display_name=name, description=description, spec=whole, labels=labels, creator=creator, **queueing)


def _weighted(mixture: Mapping[str, float | None]) -> list[WeightedDataset]:
    return [WeightedDataset(dataset=resource_name("datasets", part), weight=weight) for part, weight in mixture.items()]


def _duration(span: datetime.timedelta | None) -> Duration | None:
    if span is None:
        return None
    found = Duration()
    found.FromTimedelta(span)
    return found
