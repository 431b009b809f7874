"""Names, wishes, states and failures of runs."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trainer_values import TASK

from services.common.catalogue import CATALOGUE
from services.common.errors import InvalidArgument, NotFound
from services.trainer.exit_failure import failure_of
from services.trainer.history import Exit, History
from services.trainer.run import Failure, RunName, State, Wish

STARTED = {"control": "started", "supervisor": {"pid": 7, "start_ticks": 70, "boot": "b"}}
FAILURE = {"control": "failure", "reason": "LOSS_NOT_FINITE", "message": "nan", "step": 3, "rank": 0}
STALL = {"control": "failure", "reason": "TRAINING_STALLED", "message": "m", "metadata": {"rank": "1"}}
FENCED = {"control": "failure", "reason": "RUN_FENCED", "message": "nobody asks", "step": 3}
STOP = Wish(Failure.because("RUN_STOPPED", "stopped"))
CANCEL = Wish()


def ended(state: str, **more: object) -> dict:
    return {"control": "end", "time": 5.0, "state": state, "error": None, "artifact": None, **more}


def exited(codes: dict, *, cancelled: bool = False, failed_rank: int | None = None, **more: object) -> dict:
    return {"control": "exit", "exit_codes": codes, "cancelled": cancelled, "failed_rank": failed_rank, **more}


def event(sequence: int, kind: str = "log", **more: object) -> dict:
    return {"sequence": sequence, "time": 1.0, "kind": kind, **more}


def test_a_name_is_a_task_and_an_attempt() -> None:
    name = RunName.parse(f"runs/{TASK}-12")
    assert (str(name.task_id), name.attempt, name.id, str(name)) == (TASK, 12, f"{TASK}-12", f"runs/{TASK}-12")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "runs/",
        f"{TASK}-1",
        f"runs/{TASK}",
        f"runs/{TASK}-",
        f"runs/{TASK}-0",
        f"runs/{TASK}-01",
        f"runs/{TASK}--1",
        f"runs/{TASK}-1\n",
        f"runs/{TASK}-1/..",
        f"runs/../{TASK}-1",
        f"runs/{TASK.upper()}-1",
        f"runs/{TASK}-1234567890",
        f"runs/runs/{TASK}-1",
        f"tasks/{TASK}-1",
        f"runs/{TASK}-١",
    ],
)
def test_anything_else_is_no_name(name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        RunName.parse(name, "run.name")
    assert caught.value.reason == "INVALID_NAME"
    assert caught.value.violations[0].field == "run.name"


@given(st.text(max_size=60))
def test_whatever_is_taken_for_a_name_is_one_part_of_a_path(text: str) -> None:
    try:
        name = RunName.parse("runs/" + text)
    except InvalidArgument:
        return
    assert "/" not in name.id
    assert name.id.strip(".") == name.id


@pytest.mark.parametrize(
    ("records", "wish", "state"),
    [
        ([], None, State.STARTING),
        ([event(1)], None, State.STARTING),
        ([STARTED], None, State.RUNNING),
        ([STARTED, exited({"0": 0})], None, State.RUNNING),
        ([], CANCEL, State.CANCELLING),
        ([STARTED], CANCEL, State.CANCELLING),
        ([STARTED], STOP, State.RUNNING),
        ([STARTED, exited({"0": 0}), ended("SUCCEEDED", artifact="artifacts/a")], None, State.SUCCEEDED),
        ([STARTED, exited({"0": 1}), ended("FAILED", error={"reason": "RUN_LOST"})], CANCEL, State.FAILED),
        ([ended("CANCELLED")], CANCEL, State.CANCELLED),
    ],
)
def test_the_state_follows_from_the_journal_and_the_wish(records: list[dict], wish: Wish | None, state: State) -> None:
    assert History().after(records).state(wish) is state


def test_a_history_adds_up_in_pieces_as_in_one() -> None:
    created = event(4, "artifact_created", artifact="artifacts/a")
    records = [event(1), STARTED, event(2, "metrics", step=5), event(3, "metrics", step=4), FAILURE, created]
    whole = History().after(records)
    piecewise = History()
    for record in records:
        piecewise = piecewise.after([record])
    assert whole == piecewise
    assert (whole.head, whole.step, whole.artifact) == (4, 5, "artifacts/a")
    assert whole.supervisor is not None
    assert whole.supervisor.pid == 7


def test_the_first_failure_counts() -> None:
    history = History().after([FAILURE, FAILURE | {"reason": "TRAINING_FAILED", "rank": 1}])
    assert history.failure is not None
    assert history.failure.reason == "LOSS_NOT_FINITE"


def test_what_the_ranks_failed_of_before_they_started_again_is_over() -> None:
    history = History().after([FAILURE, {"control": "retry", "time": 1}])
    assert history.failure is None
    assert history.after([FAILURE | {"reason": "TRAINING_FAILED"}]).failure.reason == "TRAINING_FAILED"


@pytest.mark.parametrize("reason", ["EARLY_STOPPED", "TIME_LIMIT_REACHED"])
def test_an_early_end_is_remembered_to_the_end(reason: str) -> None:
    history = History().after(
        [event(1, "anomaly", reason="LOSS_SPIKE", message="no"), event(2, "anomaly", reason=reason, message="m")]
    )
    assert history.early_end == "m"
    assert history.after([ended("SUCCEEDED", early_end="m")]).end.early_end == "m"
    assert history.after([ended("SUCCEEDED")]).end.early_end == "", "journals of old do not say it"


def test_records_that_a_later_version_writes_are_skipped() -> None:
    assert History().after([{"control": "paused", "time": 1}]) == History()


@pytest.mark.parametrize(
    ("codes", "cancelled", "well"),
    [({}, False, False), ({0: 0, 1: 0}, False, True), ({0: 0, 1: 3}, False, False), ({0: 0}, True, False)],
)
def test_an_exit_went_well_only_if_every_rank_did(codes: dict[int, int | None], cancelled: bool, well: bool) -> None:
    assert Exit(codes, cancelled, None, "").went_well() is well


@pytest.mark.parametrize(
    ("records", "reason", "metadata"),
    [
        ([exited({"0": -9}, failed_rank=0)], "TRAINING_PROCESS_KILLED", {"signal": "SIGKILL", "rank": "0"}),
        ([exited({"0": -15, "1": -11}, failed_rank=1)], "TRAINING_PROCESS_KILLED", {"signal": "SIGSEGV", "rank": "1"}),
        ([exited({"0": -63}, failed_rank=0)], "TRAINING_PROCESS_KILLED", {"signal": "signal 63", "rank": "0"}),
        ([exited({"0": 7}, failed_rank=0)], "TRAINING_PROCESS_EXITED", {"exit_code": "7", "rank": "0"}),
        ([FAILURE, exited({"0": 1}, failed_rank=0)], "LOSS_NOT_FINITE", {}),
        ([FAILURE, exited({"0": 1, "1": -9}, failed_rank=1)], "TRAINING_PROCESS_KILLED", {"signal": "SIGKILL", "rank": "1"}),
        ([STALL, exited({"0": -9, "1": -9}, failed_rank=1)], "TRAINING_STALLED", {"rank": "1"}),
        ([FAILURE, exited({})], "LOSS_NOT_FINITE", {}),
        ([exited({}, lost="killed")], "RUN_LOST", {}),
        ([FAILURE, exited({}, lost="killed")], "LOSS_NOT_FINITE", {}),
        ([exited({"0": 143}, cancelled=True)], "RUN_STOPPED", {}),
        ([exited({"0": 143, "1": 143}, failed_rank=1)], "RUN_STOPPED", {}),
        ([FENCED, exited({"0": 143, "1": -9})], "RUN_FENCED", {}),
        ([FENCED, exited({"0": 143}, cancelled=True)], "RUN_STOPPED", {}),
    ],
)
def test_the_cause_of_an_exit(records: list[dict], reason: str, metadata: dict[str, str]) -> None:
    failure = failure_of(History().after(records))
    assert (failure.reason, dict(failure.metadata)) == (reason, metadata)
    assert failure.message
    assert failure.hint


def test_a_rank_that_was_stopped_because_it_stalled_failed_of_the_stall() -> None:
    records = [STALL, exited({"1": 128 + signal.SIGTERM}, failed_rank=1)]
    assert failure_of(History().after(records)).reason == "TRAINING_STALLED"


def test_a_failure_knows_the_step_it_came_after() -> None:
    records = [event(1, "metrics", step=9), exited({"0": -signal.SIGKILL}, failed_rank=0)]
    assert failure_of(History().after(records)).step == 9
    assert failure_of(History().after([records[0], FAILURE, exited({"0": 1}, failed_rank=0)])).step == 3


def test_what_a_failure_record_leaves_out_comes_from_the_catalogue() -> None:
    failure = Failure.from_record({"reason": "OUT_OF_MEMORY", "message": "no room", "error_class": "weather"})
    assert (failure.error_class, failure.hint) == ("user", CATALOGUE["OUT_OF_MEMORY"].hint)
    unknown = Failure.from_record({"reason": "BRAND_NEW", "message": ""})
    assert unknown.reason == "BRAND_NEW"
    assert unknown.message
    assert unknown.hint
    assert Failure.from_record({}).reason == "TRAINING_FAILED"


def test_an_error_becomes_a_failure_with_all_it_says() -> None:
    failure = Failure.of(NotFound("DATASET_NOT_FOUND", "datasets/x"))
    assert (failure.reason, failure.error_class) == ("DATASET_NOT_FOUND", "user")
    assert dict(failure.metadata) == {"resource": "datasets/x"}


def test_the_supervisors_patience_is_known_to_whoever_watches_it() -> None:
    assert History().patience == 0.0
    assert History().after([{"control": "patience", "seconds": 600.0, "time": 1}]).patience == 600.0
