"""Generation tasks as OpenAI's batches, and what came of a row as a line of their files; used by batches and batch_files."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from services.gateway import identifiers, job_labels
from services.gateway.batch_request import ENDPOINT
from services.gateway.chat_conversion import Answer
from services.gateway.job_labels import metadata_of
from tunesmith.v1.inference_service_pb2 import ChatUsage, FinishReason, StreamChatResponse, ToolCall
from tunesmith.v1.task_pb2 import Task

Json = dict[str, Any]
ENDPOINT_LABEL = "openai.endpoint"
"""The label that tells the task of a batch from other generations."""
_STATUS = {
    Task.QUEUED: "validating",
    Task.STARTING: "in_progress",
    Task.RUNNING: "in_progress",
    Task.PAUSING: "in_progress",
    Task.PAUSED: "in_progress",
    Task.CANCELLING: "cancelling",
    Task.SUCCEEDED: "completed",
    Task.FAILED: "failed",
    Task.CANCELLED: "cancelled",
}


def batch(task: Task) -> Json:
    """The whole object. A batch does not end by itself, so it has no time at which it expires."""
    made, status = files(task), _status(task)
    output, errors = identifiers.output_id(task.name), identifiers.errors_id(task.name)
    return {
        "id": identifiers.batch_id(task.name),
        "object": "batch",
        "endpoint": ENDPOINT,
        "model": task.labels[job_labels.MODEL],
        "errors": _errors(task),
        "input_file_id": identifiers.file_id(task.spec.generation.dataset),
        "completion_window": "24h",
        "status": status,
        "output_file_id": output if output in made else None,
        "error_file_id": errors if errors in made else None,
        "created_at": task.create_time.seconds,
        "in_progress_at": _seconds(task, "start_time"),
        "expires_at": None,
        "finalizing_at": None,
        "completed_at": _ended(task, Task.SUCCEEDED),
        "failed_at": _ended(task, Task.FAILED),
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": _ended(task, Task.CANCELLED),
        "request_counts": _counts(task),
        "metadata": metadata_of(task.labels) or None,
        "tunesmith": {"task": task.name, "state": Task.State.Name(task.state).lower(), "state_reason": task.state_reason},
    }


def is_batch(task: Task) -> bool:
    """Whether the task was asked for as a batch."""
    return task.spec.HasField("generation") and ENDPOINT_LABEL in task.labels


def answers_artifact(task: Task) -> str:
    """Where the answers of a batch are that has ended well or was cancelled; empty = nowhere."""
    if not is_batch(task) or task.state not in (Task.SUCCEEDED, Task.CANCELLED):
        return ""
    return task.artifact if task.state == Task.SUCCEEDED else task.generation_result.partial_artifact


def files(task: Task) -> list[str]:
    """The ids of the files that a batch has made."""
    if not answers_artifact(task):
        return []
    result = task.generation_result
    answered = [identifiers.output_id(task.name)] if result.answered_count else []
    return answered + ([identifiers.errors_id(task.name)] if result.failed_count else [])


def result(task: Task, told: Mapping[str, Any]) -> Json:
    """A line of the files of a batch; `told` is what the generation says of a row."""
    digits = f"{identifiers.batch_id(task.name)}_{told['row']}"
    line: Json = {"id": f"batch_req_{digits}", "custom_id": str(told["label"]), "response": None, "error": None}
    if "text" not in told:
        return line | {"error": {"code": told["reason"].lower(), "message": told["message"]}}
    piece = StreamChatResponse(
        delta=told["text"],
        tool_calls=map(_call, told.get("tool_calls", ())),
        finish_reason=FinishReason.Value(f"FINISH_REASON_{told['finish_reason']}"),
        usage=ChatUsage(prompt_tokens=told["prompt_tokens"], completion_tokens=told["completion_tokens"]),
    )
    answer = Answer(
        f"chatcmpl-{digits}", task.labels[job_labels.MODEL], task.end_time.seconds, with_logprobs=False, with_usage=False
    )
    return line | {"response": {"status_code": 200, "request_id": f"req_{digits}", "body": answer.whole([piece])}}


def _call(told: Mapping[str, Any]) -> ToolCall:
    return ToolCall(id=told["id"], name=told["function"]["name"], arguments=told["function"]["arguments"])


def _status(task: Task) -> str:
    """Every row has what came of it, and the files are being stored: finalizing."""
    done = task.state == Task.RUNNING and 0 < task.progress.total_steps <= task.progress.step
    return "finalizing" if done else _STATUS.get(task.state, "validating")


def _counts(task: Task) -> dict[str, int]:
    """While it runs, what could not be answered counts as completed: only the end tells."""
    if task.HasField("generation_result"):
        result = task.generation_result
        return {"total": result.row_count, "completed": result.answered_count, "failed": result.failed_count}
    return {"total": task.progress.total_steps, "completed": task.progress.step, "failed": 0}


def _errors(task: Task) -> Json | None:
    if not task.HasField("error"):
        return None
    message = f"{task.error.message} {task.error.hint}".strip()
    told = {"code": task.error.reason.lower(), "message": message, "param": None, "line": None}
    return {"object": "list", "data": [told]}


def _ended(task: Task, state: Task.State.ValueType) -> int | None:
    return _seconds(task, "end_time") if task.state == state else None


def _seconds(task: Task, field: str) -> int | None:
    time: Timestamp = getattr(task, field)
    return time.seconds if task.HasField(field) else None  # type: ignore[arg-type]
