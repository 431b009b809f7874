"""`tunesmith task logs` and `task metrics`: what a run printed and measured."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.options import Json, TaskId
from tunesmith.cli.output import print_json, print_table, when

if TYPE_CHECKING:
    from tunesmith.client import Client
    from tunesmith.v1.task_event_pb2 import LogEntry
    from tunesmith.v1.task_manager_service_pb2 import ListMetricsResponse, LogFilter, LogLine, MetricPoint, MetricSeries

_BLOCKS = "▁▂▃▄▅▆▇█"
_CURVE_CELLS = 32
_MOST_ROWS = 20

_Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the task ends.")]


def logs(
    task: TaskId,
    *,
    follow: _Follow = False,
    level: Annotated[str, typer.Option(help="Only lines at least this serious: debug, info, warning, error.")] = "",
    rank: Annotated[list[int] | None, typer.Option(help="Only these ranks; -1 = the trainer itself; repeatable.")] = None,
    contains: Annotated[str, typer.Option(help="Only lines that contain this text, in any case.")] = "",
    grep: Annotated[str, typer.Option(metavar="PATTERN", help="Only lines in which this regular expression is found.")] = "",
    as_json: Json = False,
) -> None:
    """Show what a run printed, all ranks in order."""
    from tunesmith.client import Client
    from tunesmith.v1.task_manager_service_pb2 import LogFilter

    severity = _severity(level)
    wanted = LogFilter(min_severity=severity, ranks=rank or [], contains=contains, pattern=grep)
    with Client() as client:
        following = client.stream_logs(task, 0, severity, rank or [], contains=contains, pattern=grep) if follow else None
        for line in following or _lines_so_far(client, task, wanted):
            print_json(line, compact=True) if as_json else print(_log_text(line), flush=follow)


def metrics(
    task: TaskId,
    metric: Annotated[list[str] | None, typer.Option(help="Only these metrics, for example loss; repeatable.")] = None,
    follow: _Follow = False,
    as_json: Json = False,
) -> None:
    """Show what a run measured: a curve per metric, or the points of one."""
    from tunesmith.client import Client

    with Client() as client:
        if follow or as_json:
            points = client.stream_metrics(task, 0, metric or []) if follow else _points_so_far(client, task, metric or [])
            for point in points:
                values = " ".join(f"{name}={value:.6g}" for name, value in sorted(point.values.items()))
                print_json(point, compact=True) if as_json else print(f"step {point.step} {values}", flush=True)
            return
        history = client.list_metrics(task, metric or [])
    if metric and len(history.series) == 1:
        _print_points(history.series[0])
    else:
        _print_curves(history)


def _severity(level: str) -> "LogEntry.Severity.ValueType":
    from tunesmith.errors import InvalidArgument
    from tunesmith.v1.task_event_pb2 import LogEntry

    known = {name.lower(): number for name, number in LogEntry.Severity.items() if number}
    if level and level.lower() not in known:
        raise InvalidArgument(f"there is no level {level!r}", reason="LEVEL_UNKNOWN", hint=f"Known: {', '.join(known)}.")
    return known.get(level.lower(), LogEntry.SEVERITY_UNSPECIFIED)


def _lines_so_far(client: "Client", task: str, wanted: "LogFilter") -> "Iterator[LogLine]":
    from tunesmith.v1.task_event_pb2 import TaskEvent
    from tunesmith.v1.task_manager_service_pb2 import LogLine

    for event in client.list_events(task, kinds=[TaskEvent.LOG_ENTRY], logs=wanted):
        yield LogLine(sequence=event.sequence, time=event.time, entry=event.log_entry, attempt=event.attempt)


def _points_so_far(client: "Client", task: str, metrics: list[str]) -> "Iterator[MetricPoint]":
    from tunesmith.v1.task_event_pb2 import TaskEvent
    from tunesmith.v1.task_manager_service_pb2 import MetricPoint

    for event in client.list_events(task, kinds=[TaskEvent.STEP_METRICS]):
        measured = event.step_metrics
        values = {name: value for name, value in measured.values.items() if not metrics or name in metrics}
        if values:
            yield MetricPoint(sequence=event.sequence, time=event.time, step=measured.step, values=values, attempt=event.attempt)


def _log_text(line: "LogLine") -> str:
    from tunesmith.v1.task_event_pb2 import LogEntry

    entry = line.entry
    origin = f"rank {entry.rank}" if entry.rank >= 0 else "trainer"
    cut = " …" if entry.truncated else ""
    return f"{when(line.time)} {origin:<7} {LogEntry.Severity.Name(entry.severity):<7} {entry.text}{cut}"


def _print_points(series: "MetricSeries") -> None:
    every = max(1, -(-len(series.samples) // _MOST_ROWS))
    shown = [sample for index, sample in enumerate(series.samples) if index % every == 0 or index == len(series.samples) - 1]
    rows = [(str(sample.step), f"{sample.value:.6g}", f"{sample.elapsed.seconds} s") for sample in shown]
    print_table(["STEP", series.metric.upper(), "AFTER"], rows, "nothing was measured yet")


def _print_curves(history: "ListMetricsResponse") -> None:
    rows = []
    for series in history.series:
        values = [sample.value for sample in series.samples]
        if values:
            ends = (f"{values[0]:.5g}", f"{values[-1]:.5g}", f"{min(values):.5g}", f"{max(values):.5g}")
            rows.append((series.metric, *ends, str(series.sample_count), curve(values)))
    print_table(["METRIC", "FIRST", "LAST", "LEAST", "MOST", "POINTS", "CURVE"], rows, "nothing was measured yet")


def curve(values: Iterable[float]) -> str:
    """The shape of a series in one line of block characters; values that are not finite are gaps."""
    import math

    points = list(values)
    every = max(1, -(-len(points) // _CURVE_CELLS))
    cells = points[::every]
    finite = [value for value in cells if math.isfinite(value)]
    if not finite:
        return ""
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    top = len(_BLOCKS) - 1
    return "".join(_BLOCKS[round((value - low) / span * top)] if math.isfinite(value) else " " for value in cells)
