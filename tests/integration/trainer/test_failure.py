"""Runs that go wrong: each ends FAILED with its cause, its last lines, and no process left."""

import math

import pytest
from trainer_face import Face, assert_dense, eventually, texts
from trainer_scripts import GOOD, RUNS_ON
from trainer_storage import FakeStorage

from tunesmith.v1 import task_error_pb2, task_event_pb2, task_pb2

pytestmark = pytest.mark.integration


async def failed(face: Face, name: str) -> task_error_pb2.TaskError:
    _, end = await face.watch(name)
    assert end.state == task_pb2.Task.FAILED
    assert end.error.hint
    assert end.error.error_class
    assert end.error == (await face.get(name)).error
    await eventually(lambda: not face.survivors(), "processes of the run are left")
    return end.error


async def test_a_killed_rank_fails_the_run_with_its_signal_and_last_lines(face: Face, storage: FakeStorage) -> None:
    spoken = [{"do": "say", "text": f"line {number}", "ranks": [1]} for number in range(60)]
    name = await face.submit(storage.add_script(*spoken, *RUNS_ON), processes=2)
    await eventually((face.directory(name) / "ready").exists, "training did not start")
    await eventually(lambda: "line 59" in face.journal(name), "rank 1 did not speak")

    victim = next(process for process in face.ranks() if process.environ()["RANK"] == "1")
    victim.kill()

    error = await failed(face, name)
    assert error.reason == "TRAINING_PROCESS_KILLED"
    assert dict(error.metadata) == {"signal": "SIGKILL", "rank": "1"}
    assert error.step == 2
    assert len(error.log_tail) == 50
    assert error.log_tail[-1] == "line 59"


async def test_what_other_ranks_say_after_a_kill_is_not_the_cause(face: Face, storage: FakeStorage) -> None:
    failure = {"kind": "failure", "reason": "TRAINING_FAILED", "message": "connection closed by peer"}
    script = (
        {"do": "signal", "number": 9, "ranks": [1]},
        {"do": "sleep", "seconds": 0.3},
        {"do": "events", "events": [failure]},
        {"do": "exit", "code": 1},
    )
    name = await face.submit(storage.add_script(*script), processes=2)
    assert (await failed(face, name)).reason == "TRAINING_PROCESS_KILLED"


async def test_an_exit_code_without_a_reason_is_named(face: Face, storage: FakeStorage) -> None:
    name = await face.submit(storage.add_script({"do": "say", "text": "boom", "stderr": True}, {"do": "exit", "code": 7}))
    error = await failed(face, name)
    assert (error.reason, error.metadata["exit_code"], error.metadata["rank"]) == ("TRAINING_PROCESS_EXITED", "7", "0")
    assert "boom" in error.log_tail


async def test_the_reason_that_the_training_process_gives_is_the_run_s(face: Face, storage: FakeStorage) -> None:
    failure = {
        "kind": "failure",
        "reason": "LOSS_NOT_FINITE",
        "message": "the loss is nan at step 3",
        "error_class": "user",
        "hint": "Lower learning_rate.",
        "step": 3,
        "metadata": {"loss": "nan"},
    }
    name = await face.submit(storage.add_script({"do": "events", "events": [failure]}, {"do": "exit", "code": 1}))
    error = await failed(face, name)
    assert (error.reason, error.message, error.step) == ("LOSS_NOT_FINITE", "the loss is nan at step 3", 3)
    assert error.error_class == task_error_pb2.ERROR_CLASS_USER
    assert (error.hint, dict(error.metadata)) == ("Lower learning_rate.", {"loss": "nan"})


async def test_a_rank_that_fails_takes_a_deaf_one_with_it(face: Face, storage: FakeStorage) -> None:
    script = (
        {"do": "ignore_sigterm", "ranks": [1]},
        {"do": "make", "file": "deaf", "ranks": [1]},
        {"do": "wait_for", "file": "deaf"},
        {"do": "exit", "code": 3, "ranks": [0]},
        {"do": "sleep", "seconds": 600},
    )
    name = await face.submit(storage.add_script(*script), processes=2)
    assert (await failed(face, name)).metadata["exit_code"] == "3"


@pytest.mark.parametrize("detached", [False, True])
async def test_a_killed_supervisor_fails_the_run_and_leaves_nobody(face: Face, storage: FakeStorage, detached: bool) -> None:
    name = await face.submit(storage.add_script({"do": "spawn", "detached": detached}, *RUNS_ON))
    await eventually((face.directory(name) / "ready").exists, "training did not start")
    await eventually(lambda: '"step":2' in face.journal(name), "the second step did not arrive")
    [supervisor] = face.supervisors()

    supervisor.kill()

    error = await failed(face, name)
    assert error.reason == "RUN_LOST"
    assert error.error_class == task_error_pb2.ERROR_CLASS_TRANSIENT
    assert error.step == 2


async def test_an_end_without_a_result_is_a_failure(face: Face, storage: FakeStorage) -> None:
    name = await face.submit(storage.add_script({"do": "say", "text": "nothing to do"}))
    assert (await failed(face, name)).reason == "TRAINING_FAILED"
    assert storage.headers == []


async def test_a_dataset_that_is_not_there_fails_the_run_with_that_reason(face: Face, storage: FakeStorage) -> None:
    name = await face.submit("datasets/7d3f0f3e-3f0e-4c6e-9f4f-0d0a8f0f1a11")
    error = await failed(face, name)
    assert error.reason == "DATASET_NOT_FOUND"
    assert error.step == 0


async def test_bytes_that_never_match_their_checksum_fail_the_run(face: Face, storage: FakeStorage) -> None:
    storage.corrupt_downloads = 1000
    name = await face.submit(storage.add_script(*GOOD))
    assert (await failed(face, name)).reason == "CHECKSUM_MISMATCH"


async def test_a_download_that_breaks_once_is_tried_again(face: Face, storage: FakeStorage) -> None:
    storage.corrupt_downloads = 1
    name = await face.submit(storage.add_script(*GOOD))
    _, end = await face.watch(name)
    assert end.state == task_pb2.Task.SUCCEEDED


async def test_a_newer_attempt_at_storage_makes_the_upload_stale(face: Face, storage: FakeStorage) -> None:
    storage.newest_epoch = 9
    name = await face.submit(storage.add_script(*GOOD), epoch=8)
    assert (await failed(face, name)).reason == "STALE_EPOCH"
    assert storage.artifacts == {}


async def test_hostile_output_becomes_log_entries(face: Face, storage: FakeStorage) -> None:
    script = (
        {"do": "raw", "hex": "00ff80c3", "times": 50_000},
        {"do": "raw", "hex": "0a"},
        {"do": "raw", "hex": "61", "times": 1_000_000},
        {"do": "raw", "hex": "0a"},
        {"do": "raw", "hex": "31300d32300d0a"},
        {"do": "raw", "hex": "547261636562", "fd": 2},
        {"do": "raw", "hex": "0a54726163656261636b20286d6f7374", "fd": 2},
        *GOOD,
    )
    name = await face.submit(storage.add_script(*script))
    events, end = await face.watch(name)

    assert end.state == task_pb2.Task.SUCCEEDED
    assert_dense(events)
    entries = [event.log_entry for event in events if event.HasField("log_entry") and event.log_entry.rank == 0]
    binary, long, *others = [entry for entry in entries if entry.source == "stdout"]
    assert binary.truncated
    assert len(binary.text.encode()) <= 16 * 1024
    assert (long.truncated, long.text) == (True, "a" * 16 * 1024)
    assert [entry.text for entry in others] == ["10", "20", "loading"]
    severities = {entry.text: entry.severity for entry in entries if entry.source == "stderr"}
    assert severities == {"Traceb": task_event_pb2.LogEntry.WARNING, "Traceback (most": task_event_pb2.LogEntry.ERROR}


async def test_numbers_that_are_none_travel_and_nonsense_on_the_pipe_is_reported(face: Face, storage: FakeStorage) -> None:
    values = {"loss": math.nan, "grad_norm": math.inf, "eval_loss": None}
    script = (
        {"do": "events", "events": [{"kind": "metrics", "step": 4, "values": values}, {"kind": "party"}, "text", 7]},
        {"do": "events", "events": [{"kind": "anomaly", "reason": "LOSS_NOT_FINITE", "message": "nan", "step": 4}]},
        *GOOD,
    )
    name = await face.submit(storage.add_script(*script))
    events, end = await face.watch(name)

    assert end.state == task_pb2.Task.SUCCEEDED
    metrics = next(event.step_metrics for event in events if event.HasField("step_metrics"))
    assert (metrics.step, set(metrics.values)) == (4, {"loss", "grad_norm"})
    assert math.isnan(metrics.values["loss"])
    assert metrics.values["grad_norm"] == math.inf
    assert sum("unreadable event" in text for text in texts(events, rank=-1)) == 3
    [anomaly] = [event.anomaly for event in events if event.HasField("anomaly")]
    assert (anomaly.reason, anomaly.step) == ("LOSS_NOT_FINITE", 4)


async def test_a_flood_arrives_whole_and_in_order(face: Face, storage: FakeStorage) -> None:
    name = await face.submit(storage.add_script({"do": "flood", "lines": 30_000}, *GOOD))
    events, end = await face.watch(name)
    assert end.state == task_pb2.Task.SUCCEEDED
    assert_dense(events)
    assert [text for text in texts(events, rank=0) if text.startswith("line ")] == [f"line {n}" for n in range(30_000)]
