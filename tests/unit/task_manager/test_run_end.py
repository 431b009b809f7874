"""What the end of a run means for its task."""

import pytest
from dispatch_fakes import assignment

from services.task_manager.conversion import make_error
from services.task_manager.domain.kind import Kind
from services.task_manager.domain.task import State
from services.task_manager.run_end import change_of_end, interruption, lost_run_changes
from services.task_manager.trainer_port import RunEnd
from tunesmith.v1 import task_error_pb2


def failed(reason: str) -> RunEnd:
    return RunEnd(7, State.FAILED, make_error(reason, "what happened"), "")


@pytest.mark.parametrize("reason", ["RUN_LOST", "RUN_STOPPED", "RUN_PAUSED", "RUN_FENCED"])
def test_a_run_that_was_interrupted_is_worth_another_attempt(reason: str) -> None:
    assert interruption(failed(reason)) == "what happened"


@pytest.mark.parametrize("reason", ["TRAINING_PROCESS_KILLED", "LOSS_NOT_FINITE", "DATASET_UNUSABLE", "OUT_OF_MEMORY"])
def test_a_run_that_failed_by_itself_is_not(reason: str) -> None:
    assert interruption(failed(reason)) == ""


@pytest.mark.parametrize("end", [RunEnd(7, State.SUCCEEDED, None, "artifacts/1"), RunEnd(7, State.CANCELLED, None, "")])
def test_an_end_without_failure_is_no_interruption(end: RunEnd) -> None:
    assert interruption(end) == ""


@pytest.mark.parametrize(
    ("early_end", "reason"),
    [
        ("", "the training finished and the artifact is stored"),
        ("time was up", "the training ended early (time was up) and the artifact is stored"),
    ],
    ids=["whole", "early"],
)
def test_a_success_says_whether_the_training_was_whole(early_end: str, reason: str) -> None:
    change = change_of_end(RunEnd(7, State.SUCCEEDED, None, "artifacts/1", early_end), assignment())
    assert (change.to, change.reason, change.artifact) == (State.SUCCEEDED, reason, "artifacts/1")


@pytest.mark.parametrize(
    ("kind", "noun"), [(Kind.EXPORT, "export"), (Kind.EVALUATION, "evaluation"), (Kind.GENERATION, "generation")]
)
def test_a_success_is_called_by_what_the_task_does(kind: Kind, noun: str) -> None:
    change = change_of_end(RunEnd(7, State.SUCCEEDED, None, "artifacts/1"), assignment(kind=kind))
    assert change.reason == f"the {noun} finished and the artifact is stored"


def test_before_the_limit_the_task_waits_again_and_at_the_limit_it_fails_by_name() -> None:
    failure, retry = lost_run_changes("the machine went down", 3)
    assert (retry.to, failure.to) == (State.QUEUED, State.FAILED)
    assert "the machine went down" in retry.reason
    assert "3 runs" in failure.reason
    assert failure.error


@pytest.mark.parametrize("reason", ["OBJECT_STORE_UNAVAILABLE", "STORAGE_UNAVAILABLE"])
def test_a_failure_of_the_moment_is_worth_another_attempt_and_keeps_its_name_at_the_limit(reason: str) -> None:
    end = failed(reason)
    failure, retry = lost_run_changes(interruption(end), 2, end.error)
    assert retry.to is State.QUEUED
    error = task_error_pb2.TaskError.FromString(failure.error or b"")
    assert (error.reason, error.message) == (reason, "what happened; 2 runs were lost")


def test_a_task_with_one_attempt_is_not_told_of_several() -> None:
    failure, _ = lost_run_changes("the machine went down", 1)
    assert failure.reason == "the machine went down; its only run was lost"
