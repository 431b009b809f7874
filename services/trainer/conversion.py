"""Between the protos and the words of the trainer; used by servicer, storage client and registry."""

from collections.abc import Callable, Mapping

from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from services.common.errors import InvalidArgument, Violation
from services.trainer.history import History
from services.trainer.journal import Record
from services.trainer.kinds.table import kind_of
from services.trainer.run import Failure, Request, RunName, State, Wish
from services.trainer.wishes import LABEL
from tunesmith.v1 import task_error_pb2, task_event_pb2, task_pb2, trainer_service_pb2


def request_from_proto(run: trainer_service_pb2.Run, create_time: float) -> Request:
    """What StartRun asks for; raises InvalidArgument naming the field that is wrong."""
    name = RunName.parse(run.name, "run.name")
    if run.task != f"tasks/{name.task_id}" or run.attempt != name.attempt:
        raise InvalidArgument(Violation("run.name", f"{name} is not attempt {run.attempt} of {run.task!r}"))
    if run.epoch < 1:
        raise InvalidArgument(Violation("run.epoch", f"{run.epoch} is not an epoch; they begin at 1"))
    kind_of(run).check(run)
    asked = trainer_service_pb2.Run(
        name=str(name),
        task=run.task,
        attempt=run.attempt,
        epoch=run.epoch,
        spec=run.spec,
        hyperparameters=run.hyperparameters,
        first_attempt=run.first_attempt,
    )
    asked.create_time.CopyFrom(_timestamp(create_time))
    return request_from_document(json_format.MessageToJson(asked, preserving_proto_field_name=True))


def request_from_document(document: str) -> Request:
    """The same from the proto JSON kept on disk; raises ValueError when it is no run."""
    try:
        run = json_format.Parse(document, trainer_service_pb2.Run(), ignore_unknown_fields=True)
        name, kind = RunName.parse(run.name), kind_of(run)
    except (json_format.ParseError, InvalidArgument) as error:
        raise ValueError(f"not the proto JSON of a run: {error}") from error
    return Request(
        name=name,
        epoch=run.epoch,
        kind=kind.field,
        ask=kind.read(run),
        create_time=run.create_time.ToMicroseconds() / 1e6,
        document=document,
        first_attempt=run.first_attempt,
    )


def check_label(label: str) -> None:
    """Raises InvalidArgument when nothing can be called so; empty is no label."""
    if label and not LABEL.fullmatch(label):
        raise InvalidArgument(Violation("label", f"{label[:80]!r} does not match {LABEL.pattern}"))


def run_to_proto(request: Request, history: History, wish: Wish | None) -> trainer_service_pb2.Run:
    """A run as the API shows it."""
    run = json_format.Parse(request.document, trainer_service_pb2.Run(), ignore_unknown_fields=True)
    run.state = state_to_proto(history.state(wish))
    run.head_sequence = history.head
    if history.end is not None:
        run.artifact = history.end.artifact
        if history.end.failure is not None:
            run.error.CopyFrom(error_to_proto(history.end.failure))
    return run


def state_to_proto(state: State) -> "task_pb2.Task.State.ValueType":
    """States have the same names on both sides."""
    return task_pb2.Task.State.Value(state.value)


def error_to_proto(failure: Failure) -> task_error_pb2.TaskError:
    """Why a run failed."""
    return task_error_pb2.TaskError(
        reason=_text(failure.reason),
        message=_text(failure.message),
        error_class=task_error_pb2.ErrorClass.Value(f"ERROR_CLASS_{failure.error_class.upper()}"),
        hint=_text(failure.hint),
        step=failure.step,
        metadata={_text(key): _text(value) for key, value in failure.metadata.items()},
        log_tail=[_text(line) for line in failure.log_tail],
    )


def event_to_proto(record: Record, attempt: int) -> task_event_pb2.TaskEvent:
    """An event record of a journal."""
    event = task_event_pb2.TaskEvent(sequence=record["sequence"], time=_timestamp(record["time"]), attempt=attempt)
    _EVENTS[record["kind"]](event, record)
    return event


def _step_metrics(event: task_event_pb2.TaskEvent, record: Record) -> None:
    event.step_metrics.step = record["step"]
    event.step_metrics.values.update({_text(name): value for name, value in record["values"].items()})
    if (seconds := record.get("remaining_seconds")) is not None:
        event.step_metrics.remaining.FromMilliseconds(round(seconds * 1000))


def _log_entry(event: task_event_pb2.TaskEvent, record: Record) -> None:
    entry = event.log_entry
    entry.severity = task_event_pb2.LogEntry.Severity.Value(record["severity"])
    entry.rank, entry.source, entry.text = record["rank"], record["source"], _text(record["text"])
    entry.truncated, entry.step = record["truncated"], record["step"]


def _training_started(event: task_event_pb2.TaskEvent, record: Record) -> None:
    fields = task_event_pb2.TrainingStarted.DESCRIPTOR.fields_by_name
    event.training_started.SetInParent()
    for name in fields.keys() & record.keys():
        setattr(event.training_started, name, record[name])


def _anomaly(event: task_event_pb2.TaskEvent, record: Record) -> None:
    event.anomaly.reason, event.anomaly.message = _text(record["reason"]), _text(record["message"])
    event.anomaly.step = record["step"]
    # Journals of older trainers do not have the rest.
    event.anomaly.rank, event.anomaly.suggestion = record.get("rank", 0), _text(record.get("suggestion", ""))
    event.anomaly.rows.extend(record.get("rows", ()))
    event.anomaly.log_lines.extend(_text(line) for line in record.get("log_lines", ()))


def _sample_generated(event: task_event_pb2.TaskEvent, record: Record) -> None:
    sample = event.sample_generated
    sample.step, sample.index, sample.truncated = record["step"], record["index"], record["truncated"]
    sample.prompt, sample.text = _text(record["prompt"]), _text(record["text"])


def _artifact_created(event: task_event_pb2.TaskEvent, record: Record) -> None:
    created = event.artifact_created
    created.artifact, created.size_bytes = record["artifact"], record["size_bytes"]
    created.expire_time.CopyFrom(_timestamp(record["expire_time"]))


def _checkpoint_saved(event: task_event_pb2.TaskEvent, record: Record) -> None:
    saved = event.checkpoint_saved
    saved.step, saved.name, saved.size_bytes = record["step"], _text(record["name"]), record["size_bytes"]
    saved.values.update({_text(name): value for name, value in record["values"].items()})
    saved.artifact = record.get("artifact", "")
    saved.labels.extend(map(_text, record.get("labels", ())))


def _answering_started(event: task_event_pb2.TaskEvent, record: Record) -> None:
    started = event.answering_started
    started.total_answers, started.resumed_answers = record["total_answers"], record["resumed_answers"]
    started.models.extend(map(_text, record["models"]))


def _evaluation_finished(event: task_event_pb2.TaskEvent, record: Record) -> None:
    json_format.ParseDict(record["result"], event.evaluation_finished.result, ignore_unknown_fields=True)


def _generation_finished(event: task_event_pb2.TaskEvent, record: Record) -> None:
    json_format.ParseDict(record["result"], event.generation_finished.result, ignore_unknown_fields=True)


def _rows_held_out(event: task_event_pb2.TaskEvent, record: Record) -> None:
    event.rows_held_out.dataset = record["dataset"]


_EVENTS: Mapping[str, Callable[[task_event_pb2.TaskEvent, Record], None]] = {
    "metrics": _step_metrics,
    "log": _log_entry,
    "training_started": _training_started,
    "anomaly": _anomaly,
    "sample_generated": _sample_generated,
    "checkpoint_saved": _checkpoint_saved,
    "artifact_created": _artifact_created,
    "answering_started": _answering_started,
    "evaluation_finished": _evaluation_finished,
    "generation_finished": _generation_finished,
    "rows_held_out": _rows_held_out,
}


def _timestamp(seconds: float) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromMicroseconds(round(seconds * 1e6))
    return timestamp


def _text(text: str) -> str:
    # JSON can spell half a surrogate pair, protobuf refuses it.
    return text.encode(errors="replace").decode()
