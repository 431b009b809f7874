"""What the end of a run, a refused start or a lost run means for its task; used by the follower of a run."""

from services.common.errors import ServiceError
from services.task_manager.conversion import make_error
from services.task_manager.domain.claim import Assignment
from services.task_manager.domain.task import Change, State
from services.task_manager.trainer_port import RunEnd
from tunesmith.v1 import task_error_pb2

_INTERRUPTED = ("RUN_LOST", "RUN_STOPPED", "RUN_PAUSED", "RUN_FENCED")
_TRANSIENT = task_error_pb2.ERROR_CLASS_TRANSIENT


def change_of_end(end: RunEnd, assignment: Assignment) -> Change:
    """The task's next state for the end the trainer reports."""
    if end.state is State.SUCCEEDED and end.artifact:
        work = f"the {assignment.kind.noun}"
        ended = f"{work} ended early ({end.early_end})" if end.early_end else f"{work} finished"
        return Change(State.SUCCEEDED, f"{ended} and the artifact is stored", artifact=end.artifact)
    if end.state is State.CANCELLED and assignment.state is State.CANCELLING:
        return Change(State.CANCELLED, "the run was ended as asked for")
    if end.state is State.CANCELLED:
        return _failed("RUN_STOPPED", f"{assignment.run_name} was ended on {assignment.runner} though nobody cancelled the task")
    if end.state is State.FAILED and end.error is not None:
        return Change(State.FAILED, "the run failed", error=end.error)
    said = end.state.value if end.state else "an unknown state"
    return _failed("TRAINING_FAILED", f"{assignment.run_name} ended as {said} without saying what came of it")


def refusal_change(error: ServiceError) -> Change:
    """The trainer will never take this run."""
    return Change(State.FAILED, "the trainer refused the run", error=make_error(error.reason, error.message, error.hint))


def interruption(end: RunEnd) -> str:
    """Why the run ended through no fault of its own, so that another attempt is worth it; empty when it did not."""
    error = task_error_pb2.TaskError.FromString(end.error or b"")
    is_worth_it = error.reason in _INTERRUPTED or error.error_class == _TRANSIENT
    return error.message if end.state is State.FAILED and is_worth_it else ""


def lost_run_changes(cause: str, max_lost_runs: int, error: bytes | None = None) -> tuple[Change, Change]:
    """(what to do when too many runs were lost, what to do before); `error`: what the run itself said of its end."""
    said = task_error_pb2.TaskError.FromString(error or b"")
    retry = Change(State.QUEUED, f"{cause}; a new attempt follows")
    runs = "its only run was lost" if max_lost_runs == 1 else f"{max_lost_runs} runs were lost"
    if error is None or said.reason in _INTERRUPTED:
        return _failed("RUN_LOST", f"{cause}; {runs}"), retry
    said.message = f"{said.message}; {runs}"
    return Change(State.FAILED, "the run failed", error=said.SerializeToString()), retry


def _failed(reason: str, message: str) -> Change:
    return Change(State.FAILED, message, error=make_error(reason, message))
