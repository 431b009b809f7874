"""Tasks as text for people; used by every command that shows one."""

from collections.abc import Sequence

from google.protobuf.json_format import MessageToDict

from tunesmith.cli.output import duration, print_fields, when
from tunesmith.cli.spec_text import spec_fields
from tunesmith.names import enum_value
from tunesmith.v1.task_error_pb2 import ERROR_CLASS_PLATFORM, ERROR_CLASS_TRANSIENT, ERROR_CLASS_USER, TaskError
from tunesmith.v1.task_pb2 import Task, TaskTransition
from tunesmith.v1.task_spec_pb2 import Hyperparameters, TaskSpec

_WHO_ACTS = {
    ERROR_CLASS_USER: "user, the task or its data can be mended",
    ERROR_CLASS_PLATFORM: "platform, the operator can mend it",
    ERROR_CLASS_TRANSIENT: "transient, trying again may work",
}


def state_name(state: int) -> str:
    """`RUNNING`; a number this client does not know stays a number."""
    return Task.State.Name(state) if state in Task.State.values() else str(state)  # type: ignore[arg-type]


def kind_name(spec: TaskSpec) -> str:
    """`fine-tuning`; empty when this client does not know the kind."""
    return (spec.WhichOneof("kind") or "").replace("_", "-")


def states_named(words: Sequence[str]) -> list[Task.State.ValueType]:
    """States by name in any case.

    Raises:
        InvalidArgument: STATE_UNKNOWN.
    """
    return [enum_value(Task.State, word, "STATE_UNKNOWN") for word in words]


def progress_text(task: Task) -> str:
    """`step 12/80, loss 1.310`, or the artifact's or the error's name."""
    if task.state == Task.FAILED:
        return task.error.reason
    if not task.progress.total_steps:
        return task.state_reason
    parts = [f"step {task.progress.step}/{task.progress.total_steps}"]
    if "loss" in task.progress.metrics:
        parts.append(f"loss {task.progress.metrics['loss']:.3f}")
    return ", ".join(parts)


def hyperparameter_lines(numbers: Hyperparameters) -> list[str]:
    """`learning_rate=0.0002`, groups dotted, as `--set` takes them."""
    lines: list[str] = []
    for key, value in MessageToDict(numbers, preserving_proto_field_name=True).items():
        pairs = {f"{key}.{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {key: value}
        lines += [f"{name}={_setting(v)}" for name, v in pairs.items()]
    return lines


def _setting(value: object) -> str:
    if isinstance(value, list):
        return ",".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def error_text(error: TaskError) -> str:
    """What happened, at which step, who can act on it, and what to do."""
    step = f" (step {error.step})" if error.step else ""
    acts = _WHO_ACTS.get(error.error_class, "")
    return "\n".join([f"{error.reason}{step}: {error.message}", *([f"class: {acts}"] if acts else []), f"hint: {error.hint}"])


def _move(transition: TaskTransition) -> str:
    """`2026-01-01 12:00 RUNNING: the first step begins`."""
    why = f": {transition.reason}" if transition.reason else ""
    return f"{when(transition.time)} {state_name(transition.to_state)}{why}"


def print_task(task: Task, kept: str = "") -> None:
    """Every field that is set; `kept` says how long its artifact is."""
    print_fields(
        [
            ("name", task.name),
            ("called", task.display_name),
            ("description", task.description),
            ("state", state_name(task.state)),
            ("because", task.state_reason),
            ("place", f"{task.queue_position} in the queue" if task.queue_position else ""),
            ("starts", f"about {when(task.expected_start_time)}" if task.HasField("expected_start_time") else ""),
            ("not before", when(task.not_before_time) if task.state == Task.QUEUED and task.HasField("not_before_time") else ""),
            ("priority", str(task.priority) if task.priority else ""),
            ("progress", progress_text(task) if task.progress.total_steps else ""),
            ("remaining", duration(task.progress.remaining.seconds) if task.progress.remaining.seconds else ""),
            ("error", error_text(task.error) if task.HasField("error") else ""),
            ("artifact", task.artifact),
            ("kept", kept),
            ("from", f"{task.origin.artifact} (step {task.origin.step} of {task.origin.task})" if task.origin.artifact else ""),
            ("held out", task.held_out_dataset),
            ("evaluation", task.evaluation_task),
            ("found", task.evaluation_result.summary),
            ("made", task.generation_result.dataset),
            ("clone of", task.origin.cloned_from),
            ("asked for by", task.creator),
            ("kind", kind_name(task.spec)),
            *spec_fields(task.spec),
            ("only on", "\n".join(f"{key}={value}" for key, value in sorted(task.spec.runner_labels.items()))),
            ("attempt", str(task.attempt) if task.attempt > 1 else ""),
            ("created", when(task.create_time)),
            ("started", when(task.start_time)),
            ("ended", when(task.end_time)),
            ("labels", "\n".join(f"{key}={value}" for key, value in sorted(task.labels.items()))),
            ("history", "\n".join(map(_move, task.transitions))),
            ("numbers", "\n".join(hyperparameter_lines(task.effective_hyperparameters))),
        ]
    )
