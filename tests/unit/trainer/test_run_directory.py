"""A run's directory tells everything, and tells the same to the next process."""

import json
from pathlib import Path

import pytest
from trainer_values import make_request

from services.trainer.journal import Journal
from services.trainer.run import Failure, State, Wish
from services.trainer.run_directory import DatasetUse, Provenance, Result, RunDirectory


def again(run: RunDirectory) -> RunDirectory:
    return RunDirectory(run.path, run.request)


def test_a_new_run_is_there_whole_and_starting(run: RunDirectory, tmp_path: Path) -> None:
    assert [path.name for path in tmp_path.iterdir()] == [run.request.name.id]
    assert (run.path / "run.json").read_text() == run.request.document
    assert run.state() is State.STARTING
    assert run.is_active()
    assert run.wish() is None
    assert not run.is_prepared()


def test_a_run_is_never_made_over_another(run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not empty"):
        RunDirectory.create(tmp_path, make_request())


def test_history_follows_the_journal(run: RunDirectory) -> None:
    with Journal.open(run.journal) as journal:
        journal.control("started")
        assert run.state() is State.RUNNING
        journal.event("log", text="a")
        assert run.history().head == 1
        journal.control("end", state="CANCELLED")
    assert run.state() is State.CANCELLED
    assert not run.is_active()
    assert again(run).history() == run.history()


def test_what_it_reads_of_the_cache_is_known_once_it_is_prepared(run: RunDirectory) -> None:
    assert run.fetched() == []
    (run.path / "config.json").write_text(json.dumps({"base_model_dir": "/cache/a", "source_dir": None, "train_file": "/x"}))
    assert run.fetched() == ["/cache/a"]
    (run.path / "config.json").write_text(json.dumps({"base_model_dir": "/cache/a", "source_dir": "/cache/b"}))
    assert run.fetched() == ["/cache/a", "/cache/b"]


def test_the_base_model_is_known_once_it_is_prepared(run: RunDirectory) -> None:
    assert run.base_model() is None
    (run.path / "config.json").write_text(json.dumps({"base_model_dir": "/cache/a"}))
    assert run.base_model() == Path("/cache/a")
    (run.path / "config.json").write_text(json.dumps({"answers_file": "/x"}))
    assert run.base_model() is None


def test_wishes_are_kept(run: RunDirectory) -> None:
    stop = Wish(Failure.because("RUN_STOPPED", "the stack was stopped"))
    run.record_wish(stop)
    run.record_wish(Wish(Failure.because("RUN_STOPPED", "once more")))
    assert again(run).wish() == stop
    run.record_wish(Wish())
    run.record_wish(Wish())
    assert again(run).wish() == Wish()


def test_preparation_is_kept(run: RunDirectory) -> None:
    uses = (DatasetUse("datasets/a", "00ff", "11", 2.0, 40), DatasetUse("datasets/b", "22", "", 0.5, 3))
    provenance = Provenance("baseModels/tiny", "r1", "00ff", uses, DatasetUse("datasets/c", "33", "44", 1.0), 0.1, 4)
    run.record_preparation(provenance, {"run": "x"})
    assert again(run).is_prepared()
    assert again(run).provenance() == provenance
    assert json.loads((run.path / "config.json").read_text()) == {"run": "x"}


@pytest.mark.parametrize("text", [None, "", "{", "[]", "7", '{"step": 1}', '{"step": "x", "metrics": {}, "versions": {}}'])
def test_no_result_is_none(run: RunDirectory, text: str | None) -> None:
    if text is not None:
        (run.path / "result.json").write_text(text)
    assert run.result() is None


def test_a_result_is_read(run: RunDirectory) -> None:
    value = {"kind": "MODEL", "step": 4, "metrics": {"loss": 0.5}, "rendered_rows_sha256": "ab", "versions": {"torch": "2"}}
    (run.path / "result.json").write_text(json.dumps(value))
    assert run.result() == Result("MODEL", 4, {"loss": 0.5}, "ab", {"torch": "2"})


def test_the_log_tail_is_the_last_fifty_lines_cut(run: RunDirectory) -> None:
    with Journal.open(run.journal) as journal:
        for number in range(70):
            journal.event("log", text=f"{number}" + "x" * 5000)
            journal.event("metrics", step=number, values={})
    tail = run.log_tail()
    assert [line[:3].strip("x") for line in tail] == [str(number) for number in range(20, 70)]
    assert {len(line) for line in tail} == {2000}


def test_the_supervisor_s_last_words(run: RunDirectory) -> None:
    assert run.supervisor_log() == ""
    (run.path / "supervisor.log").write_text("")
    assert run.supervisor_log() == ""
    (run.path / "supervisor.log").write_text("Traceback\nOSError: [Errno 28] No space left on device\n")
    assert run.supervisor_log() == "OSError: [Errno 28] No space left on device"


def test_a_removed_run_leaves_nothing(run: RunDirectory, tmp_path: Path) -> None:
    run.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_provenance_of_an_earlier_version_is_still_read() -> None:
    document = '{"base_model": "baseModels/a", "base_model_revision": "r", "dataset_sha256": "00"}'

    assert Provenance.from_document(document) == Provenance("baseModels/a", "r", "00")
