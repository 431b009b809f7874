"""What happened in a run as text for people: anomalies and samples; used by `task watch` and `task show`."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from tunesmith.v1.task_event_pb2 import (
    Anomaly,
    AnsweringStarted,
    CheckpointSaved,
    EvaluationFinished,
    LogEntry,
    RowsHeldOut,
    SampleGenerated,
    TaskEvent,
    TrainingStarted,
)

_MOST_ROWS = 12
_MOST_ANOMALIES = 10


def told(events: Iterable[TaskEvent]) -> list[str]:
    """The newest anomalies and the newest answer to each prompt, oldest first; of all that happened, in order."""
    anomalies: list[Anomaly] = []
    samples: dict[int, SampleGenerated] = {}
    for event in events:
        if event.HasField("anomaly"):
            anomalies.append(event.anomaly)
        elif event.HasField("sample_generated"):
            samples[event.sample_generated.index] = event.sample_generated
    left_out = len(anomalies) - _MOST_ANOMALIES
    before = [f"{left_out} anomalies before these: tunesmith task watch"] if left_out > 0 else []
    shown = [anomaly_text(anomaly) for anomaly in anomalies[-_MOST_ANOMALIES:]]
    return [*before, *shown, *(sample_text(samples[index]) for index in sorted(samples))]


def anomaly_text(anomaly: Anomaly) -> str:
    """What and where, then the lines that explain it, then what to do."""
    where = f" [rank {anomaly.rank}]" if anomaly.rank > 0 or (anomaly.rank == 0 and anomaly.log_lines) else ""
    lines = [f"{anomaly.reason}{where}: {anomaly.message}"]
    lines += [f"  rows {_numbers(anomaly.rows)}"] if anomaly.rows else []
    lines += [f"  | {line}" for line in anomaly.log_lines]
    lines += [f"  hint: {anomaly.suggestion}"] if anomaly.suggestion else []
    return "\n".join(lines)


def sample_text(sample: SampleGenerated) -> str:
    """`sample after step 20: Where is my parcel? -> tracking`, on one line each."""
    end = " …" if sample.truncated else ""
    return f"sample after step {sample.step}: {_flat(sample.prompt)} -> {_flat(sample.text)}{end}"


def _checkpoint(saved: CheckpointSaved) -> str:
    return f"checkpoint of step {saved.step} saved ({saved.size_bytes / 1e6:.1f} MB)"


def _training(started: TrainingStarted) -> str:
    return f"continues behind step {started.resumed_step} of {started.total_steps}" if started.resumed_step else ""


def _answering(started: AnsweringStarted) -> str:
    return f"goes on behind {started.resumed_answers} of {started.total_answers} answers" if started.resumed_answers else ""


def _evaluation(finished: EvaluationFinished) -> str:
    return finished.result.summary


def _held_out(stored: RowsHeldOut) -> str:
    return f"the rows that were held out are {stored.dataset}"


def _log(entry: LogEntry) -> str:
    return f"[rank {entry.rank}] {entry.text}" if entry.severity >= LogEntry.WARNING else ""


NOTES: Mapping[str, Callable[..., str]] = {
    "anomaly": anomaly_text,
    "sample_generated": sample_text,
    "checkpoint_saved": _checkpoint,
    "training_started": _training,
    "answering_started": _answering,
    "evaluation_finished": _evaluation,
    "rows_held_out": _held_out,
    "log_entry": _log,
}
"""By the field of TaskEvent: what deserves to be seen while a task is followed; empty for the rest."""


def _flat(text: str) -> str:
    return " ".join(text.split())


def _numbers(rows: Sequence[int]) -> str:
    shown = ", ".join(map(str, rows[:_MOST_ROWS]))
    return f"{shown} and {len(rows) - _MOST_ROWS} more" if len(rows) > _MOST_ROWS else shown
