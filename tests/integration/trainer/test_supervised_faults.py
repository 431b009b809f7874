"""What the supervisor does about ranks that stand still and ranks without memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from supervised import Supervised, until

from services.trainer.journal_reader import read

pytestmark = pytest.mark.integration

STANDS = ({"do": "answer_with_stacks"}, {"do": "beat", "times": 5}, {"do": "wait_for", "file": "go"})
DONE = {"do": "exit", "code": 0}


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    run = Supervised(tmp_path)
    yield run
    run.close()


def test_ranks_that_stand_still_are_told_with_their_stacks_and_may_go_on(supervised: Supervised) -> None:
    process = supervised.start(*STANDS, DONE, processes=2)
    until(lambda: len(supervised.anomalies()) == 2, "the stalls are not told")
    (supervised.directory / "go").touch()
    assert process.wait(60) == 0
    first, second = supervised.anomalies()
    assert {first["rank"], second["rank"]} == {0, 1}
    for anomaly in (first, second):
        assert anomaly["reason"] == "TRAINING_STALLED"
        assert "after step 5" in anomaly["message"]
        assert any("wait_for" in line for line in anomaly["log_lines"]), anomaly
        assert anomaly["suggestion"]
    assert supervised.controls()["exit"]["exit_codes"] == {"0": 0, "1": 0}
    assert "failure" not in supervised.controls()


def test_a_stopped_rank_is_told_without_stacks_and_ends_the_run_when_the_task_wants_it(supervised: Supervised) -> None:
    stop = {"do": "signal", "number": 19, "ranks": [1]}
    process = supervised.start(*STANDS[:2], stop, STANDS[2], processes=2, stall_policy="fail")
    assert process.wait(60) == 0
    told = {anomaly["rank"]: anomaly for anomaly in supervised.anomalies()}
    assert "was stopped by a signal, it did not answer" in told[1]["message"]
    failure = supervised.controls()["failure"]
    assert failure["reason"] == "TRAINING_STALLED"
    assert supervised.controls()["exit"]["failed_rank"] == int(failure["metadata"]["rank"])


SAVES = (
    {"do": "ignore_sigterm"},
    {"do": "events", "events": [{"kind": "beat", "step": 5, "phase": "saving"}]},
    {"do": "make", "file": "ready"},
    {"do": "wait_for", "file": "go"},
)


def test_a_checkpoint_under_way_is_waited_for_beyond_the_grace(supervised: Supervised) -> None:
    process = supervised.start(*SAVES, {"do": "exit", "code": 143})
    supervised.wait_for("ready")
    process.terminate()
    until(lambda: "patience" in supervised.controls(), "the supervisor does not wait")
    (supervised.directory / "go").touch()
    assert process.wait(60) == 0
    assert supervised.controls()["exit"]["exit_codes"] == {"0": 143}
    texts = [record["text"] for record in read(supervised.journal) if record.get("kind") == "log"]
    assert any("a checkpoint is being written: the processes get at most 600 s more" in text for text in texts)


@pytest.mark.parametrize("reason", ["cancelled", "saved"])
def test_nothing_is_waited_for_when_the_run_is_cancelled_or_the_checkpoint_is_done(supervised: Supervised, reason: str) -> None:
    done = {"do": "events", "events": [{"kind": "beat", "step": 5, "phase": "saved"}]}
    process = supervised.start(*SAVES[:2], *([done] if reason == "saved" else []), *SAVES[2:])
    supervised.wait_for("ready")
    if reason == "cancelled":
        (supervised.directory / "cancel").touch()
    process.terminate()
    assert process.wait(60) == 0
    assert "patience" not in supervised.controls()
    assert supervised.controls()["exit"]["exit_codes"] == {"0": -9}


def test_memory_that_runs_out_on_one_rank_halves_the_batches_of_all_until_it_suffices(supervised: Supervised) -> None:
    short = {"do": "needs_rows", "rows": 2, "how": "failure", "ranks": [1]}
    process = supervised.start(short, {"do": "misses_the_others", "ranks": [0]}, DONE, processes=2)
    assert process.wait(60) == 0
    messages = [anomaly["message"] for anomaly in supervised.anomalies()]
    assert [anomaly["reason"] for anomaly in supervised.anomalies()] == ["OUT_OF_MEMORY"] * 2
    assert "no room for 8 rows" in messages[0]
    assert "per_device_train_batch_size = 4, gradient_accumulation_steps = 2" in messages[0]
    assert "per_device_train_batch_size = 2, gradient_accumulation_steps = 4" in messages[1]
    assert supervised.controls()["exit"]["exit_codes"] == {"0": 0, "1": 0}


def test_when_single_rows_are_too_much_the_failure_says_what_to_set(supervised: Supervised) -> None:
    process = supervised.start({"do": "needs_rows", "rows": 0, "how": "failure"})
    assert process.wait(60) == 0
    assert len(supervised.anomalies()) == 3
    failure = supervised.controls()["failure"]
    assert (failure["reason"], failure["message"]) == (
        "OUT_OF_MEMORY",
        "rank 0 ran out of memory (no room for 1 rows), with one row in a forward pass",
    )
    assert failure["hint"].startswith("Set max_seq_length to 450 or less (the longest row has 900 tokens)")


def test_a_kill_by_the_kernel_for_memory_is_no_other_kill(supervised: Supervised) -> None:
    supervised.program = "counted_supervisor"
    process = supervised.start({"do": "needs_rows", "rows": 4, "how": "kernel"}, DONE)
    assert process.wait(60) == 0
    [anomaly] = supervised.anomalies()
    assert "rank 0 ran out of memory, and the kernel ended it; going on with" in anomaly["message"]
    assert supervised.controls()["exit"]["exit_codes"] == {"0": 0}


def test_any_other_kill_starts_nothing_again(supervised: Supervised) -> None:
    supervised.program = "counted_supervisor"
    process = supervised.start({"do": "signal", "number": 9})
    assert process.wait(60) == 0
    assert supervised.anomalies() == []
    assert supervised.controls()["exit"]["exit_codes"] == {"0": -9}
