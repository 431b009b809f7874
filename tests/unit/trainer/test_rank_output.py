"""What ranks print and report, as journal records."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.catalogue import CATALOGUE
from services.trainer.checkpoint_delivery import leave
from services.trainer.journal import Journal
from services.trainer.journal_reader import read
from services.trainer.rank_output import RankOutput


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


@pytest.fixture
def output(path: Path) -> Iterator[RankOutput]:
    with Journal.open(path) as journal:
        yield RankOutput(journal)


def written(output: RankOutput, path: Path) -> list[dict]:
    output.end()
    return list(read(path))


def event(**value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


@pytest.mark.parametrize(
    ("source", "text", "severity"),
    [
        ("stdout", "ERROR in stdout", "INFO"),
        ("stderr", "a warning", "WARNING"),
        ("stderr", "ERROR: no", "ERROR"),
        ("stderr", "Traceback (most recent call last):", "ERROR"),
        ("stderr", "no Traceback", "WARNING"),
    ],
)
def test_severity_follows_from_the_stream_and_the_line(output, path, source: str, text: str, severity: str) -> None:
    output.feed(3, source, text.encode() + b"\n")
    [entry] = written(output, path)
    assert (entry["severity"], entry["rank"], entry["source"], entry["text"]) == (severity, 3, source, text)


def test_streams_do_not_mix(output, path) -> None:
    output.feed(0, "stdout", b"ha")
    output.feed(1, "stdout", b"wor")
    output.feed(0, "stdout", b"llo\n")
    output.feed(1, "stdout", b"ld\n")
    assert [(entry["rank"], entry["text"]) for entry in written(output, path)] == [(0, "hallo"), (1, "world")]


def test_a_half_line_is_a_line_when_its_stream_ends(output, path) -> None:
    output.feed(0, "stdout", b"last words")
    output.feed(0, "stdout", b"")
    assert [entry["text"] for entry in written(output, path)] == ["last words"]


def test_empty_lines_are_no_entries(output, path) -> None:
    output.feed(0, "stdout", b"\n\na\n\r10%\n")
    assert [entry["text"] for entry in written(output, path)] == ["a", "10%"]


def test_a_log_entry_carries_the_last_step(output, path) -> None:
    output.feed(0, "stdout", b"before\n")
    output.feed(0, "events", event(kind="metrics", step=7, values={"loss": 1.0}))
    output.feed(1, "stderr", b"after\n")
    assert [entry["step"] for entry in written(output, path)] == [0, 7, 7]


def test_a_failure_is_a_control_record_after_all_that_was_said_before(output, path) -> None:
    output.feed(0, "stdout", b"first\n")
    output.feed(0, "events", event(kind="failure", reason="LOSS_NOT_FINITE", message="nan"))
    records = written(output, path)
    assert [record.get("kind", record.get("control")) for record in records] == ["log", "failure"]
    assert records[1]["reason"] == "LOSS_NOT_FINITE"


def test_a_lack_of_memory_is_kept_back_with_all_that_fails_of_it_until_the_ranks_start_again(output, path) -> None:
    output.feed(1, "events", event(kind="failure", reason="OUT_OF_MEMORY", message="no room"))
    output.feed(0, "events", event(kind="failure", reason="TRAINING_FAILED", message="connection closed by peer"))
    assert output.out_of_memory
    assert (output.out_of_memory.fields["rank"], output.out_of_memory.fields["message"]) == (1, "no room")
    output.anomaly("OUT_OF_MEMORY", "smaller now", rank=1)
    output.retry()
    assert output.out_of_memory is None
    output.feed(0, "events", event(kind="failure", reason="TRAINING_FAILED", message="another"))
    records = written(output, path)
    assert [record.get("kind", record.get("control")) for record in records] == ["anomaly", "retry", "failure"]
    assert records[0]["suggestion"] == CATALOGUE["OUT_OF_MEMORY"].hint
    assert records[2]["message"] == "another"


def test_signs_of_life_and_what_is_said_on_standard_error_go_to_the_watch_for_stalls(path) -> None:
    told = []

    class Stalls:
        def beat(self, *given: object) -> None:
            told.append(given)

        def heard(self, *given: object) -> None:
            told.append(given)

    with Journal.open(path) as journal:
        output = RankOutput(journal, Stalls())
        output.feed(1, "events", event(kind="beat", step=4, phase="end"))
        output.feed(1, "stdout", b"no answer\n")
        output.feed(1, "stderr", b"Thread 0x1\n")
        records = written(output, path)
    assert told == [(1, 4, "end"), (1, "Thread 0x1")]
    assert [(record["kind"], record["step"]) for record in records] == [("log", 4), ("log", 4)]


def test_an_event_that_cannot_be_read_is_reported_by_the_trainer(output, path) -> None:
    output.feed(2, "events", b"{\n" + event(kind="metrics", step=1, values={}))
    entry, metrics = written(output, path)
    assert (entry["rank"], entry["source"], entry["severity"]) == (-1, "trainer", "WARNING")
    assert "rank 2" in entry["text"]
    assert metrics["kind"] == "metrics"


def test_an_endless_event_line_is_reported_and_left(output, path) -> None:
    for _ in range(30):
        output.feed(0, "events", b"x" * 100_000)
    output.feed(0, "events", b"\n" + event(kind="metrics", step=1, values={}))
    assert [record["kind"] for record in written(output, path)] == ["log", "metrics"]


def test_a_taken_port_before_training_is_not_yet_a_failure(output, path) -> None:
    output.feed(0, "events", event(kind="failure", reason="TRAINING_FAILED", message="DistNetworkError: EADDRINUSE"))
    assert output.port_was_taken
    assert written(output, path) == []


def test_a_taken_port_is_a_failure_the_second_time(output, path) -> None:
    output.feed(0, "stderr", b"EADDRINUSE\n")
    assert output.port_was_taken
    output.retry()
    output.feed(0, "events", event(kind="failure", reason="TRAINING_FAILED", message="EADDRINUSE"))
    assert not output.port_was_taken
    assert written(output, path)[-1]["control"] == "failure"


def test_a_line_about_ports_while_training_means_nothing(output, path) -> None:
    output.feed(0, "events", event(kind="metrics", step=1, values={}))
    output.feed(0, "stdout", b"my example speaks of EADDRINUSE\n")
    assert not output.port_was_taken


def test_a_flood_is_written_in_pieces(output, path) -> None:
    output.feed(0, "stdout", b"line\n" * 2500)
    assert len(list(read(path))) == 2000
    assert [record["sequence"] for record in written(output, path)] == list(range(1, 2501))


def test_a_checkpoint_is_no_event_until_storage_has_it(output, path, tmp_path) -> None:
    output.feed(0, "events", event(kind="checkpoint_saved", step=4, name="step-4", size_bytes=10, values={"loss": 1.0}))
    output.feed(0, "events", event(kind="metrics", step=5, values={"loss": 0.5}))
    output.flush()
    control, metrics = read(path)
    assert (control["control"], control["name"], "sequence" in control) == ("checkpoint", "step-4", False)
    assert (metrics["kind"], metrics["sequence"]) == ("metrics", 1)
    fields = {"step": 4, "name": "step-4", "size_bytes": 10, "values": {}, "artifact": "artifacts/a", "labels": []}
    leave(tmp_path / "stored", fields)
    output.tell_stored(tmp_path / "stored")
    output.tell_stored(tmp_path / "stored")
    told = [record for record in written(output, path) if record.get("kind") == "checkpoint_saved"]
    assert [(record["sequence"], record["artifact"]) for record in told] == [(2, "artifacts/a")]
    assert list((tmp_path / "stored").iterdir()) == []


def test_what_is_not_written_whole_yet_is_not_told(output, path, tmp_path) -> None:
    (tmp_path / "stored").mkdir()
    (tmp_path / "stored/.step-4").write_text("{")
    output.tell_stored(tmp_path / "stored")
    output.tell_stored(tmp_path / "no such directory")
    assert written(output, path) == []
