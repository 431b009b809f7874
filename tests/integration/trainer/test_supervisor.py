"""The supervisor alone: one per run, small, deaf to nothing, and gone with everything it started."""

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from supervised import Supervised, until

from services.trainer.journal import Journal, is_busy
from services.trainer.journal_reader import read

pytestmark = pytest.mark.integration

RUNS_ON = ({"do": "make", "file": "ready"}, {"do": "sleep", "seconds": 600})


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    run = Supervised(tmp_path)
    yield run
    run.close()


def test_it_writes_down_who_it_is_and_how_all_ended(supervised: Supervised) -> None:
    process = supervised.start({"do": "exit", "code": 0, "ranks": [0]}, {"do": "exit", "code": 0}, processes=2)
    assert process.wait(60) == 0
    controls = supervised.controls()
    assert controls["started"]["supervisor"]["pid"] == process.pid
    assert (controls["exit"]["exit_codes"], controls["exit"]["cancelled"]) == ({"0": 0, "1": 0}, False)
    assert controls["exit"]["failed_rank"] is None
    assert not is_busy(supervised.journal)


def test_sigterm_ends_every_rank_and_says_so(supervised: Supervised) -> None:
    process = supervised.start({"do": "ignore_sigterm", "ranks": [1]}, *RUNS_ON, processes=2)
    supervised.wait_for("ready")
    until(lambda: len(psutil.Process(process.pid).children()) == 2, "there are not two ranks")
    until(lambda: all("fake_training" in str(child.cmdline()) for child in psutil.Process(process.pid).children()), "no exec")
    process.terminate()
    assert process.wait(60) == 0
    end = supervised.controls()["exit"]
    assert end["cancelled"] is True
    assert set(end["exit_codes"].values()) <= {-signal.SIGTERM, -signal.SIGKILL}


def test_a_second_supervisor_does_nothing(supervised: Supervised) -> None:
    first = supervised.start(*RUNS_ON)
    supervised.wait_for("ready")
    first.terminate()
    assert first.wait(60) == 0
    before = supervised.journal.read_bytes()
    second = supervised.spawn()
    assert second.wait(60) == 1
    assert supervised.journal.read_bytes() == before


def test_a_run_that_has_ended_meanwhile_is_not_started(supervised: Supervised) -> None:
    with Journal.open(supervised.journal) as journal:
        journal.control("end", state="CANCELLED")
    assert supervised.start(*RUNS_ON).wait(60) == 1
    assert not (supervised.directory / "ready").exists()


def test_it_waits_for_the_journal_to_be_handed_over(supervised: Supervised) -> None:
    with Journal.open(supervised.journal) as journal:
        journal.event("log", text="the keeper's")
        process = supervised.start({"do": "say", "text": "the rank's"})
        until(lambda: psutil.Process(process.pid).cpu_times().user > 0, "it did not start")
        journal.event("log", text="still the keeper's")
    assert process.wait(60) == 0
    texts = [(record["sequence"], record["text"]) for record in read(supervised.journal) if "sequence" in record]
    assert texts == [(1, "the keeper's"), (2, "still the keeper's"), (3, "the rank's")]


def test_a_killed_supervisor_takes_its_ranks_with_it(supervised: Supervised) -> None:
    process = supervised.start(*RUNS_ON, processes=2)
    supervised.wait_for("ready")
    until(lambda: len(psutil.Process(process.pid).children()) == 2, "there are not two ranks")
    ranks = psutil.Process(process.pid).children()
    process.kill()
    _, alive = psutil.wait_procs(ranks, timeout=30)
    assert alive == []
    assert "exit" not in supervised.controls()
    assert not is_busy(supervised.journal)


def test_endless_output_takes_no_memory(supervised: Supervised) -> None:
    endless = {"do": "raw", "hex": "61", "times": 300_000_000}
    process = supervised.start(endless, {"do": "raw", "hex": "0a"}, *RUNS_ON)
    supervised.wait_for("ready")
    # The end of the line may still be in the pipe.
    until(supervised.logs, "no line was told")
    assert psutil.Process(process.pid).memory_info().rss < 60e6
    [entry] = supervised.logs()
    assert (len(entry["text"]), entry["truncated"]) == (16 * 1024, True)


def test_a_module_that_does_not_exist_is_an_exit_with_its_message(supervised: Supervised) -> None:
    process = supervised.start(module="no_such_module")
    assert process.wait(60) == 0
    assert supervised.controls()["exit"]["exit_codes"] == {"0": 1}
    assert any("no_such_module" in record.get("text", "") for record in read(supervised.journal))
