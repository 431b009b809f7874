"""One writer, dense numbers, and nothing but whole lines, whatever happened to the writer before."""

import errno
import json
import multiprocessing
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.journal import Event, Journal, JournalBusy, is_busy, sequence_of
from services.trainer.journal_reader import JournalReader, read, tail


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def log(text: str) -> Event:
    return Event("log", {"text": text})


def test_events_are_numbered_from_one_and_control_records_not_at_all(path: Path) -> None:
    with Journal.open(path, clock=lambda: 12.5) as journal:
        assert journal.event("log", text="a") == 1
        journal.control("started", pid=7)
        journal.events([log("b"), log("c")])
        assert journal.sequence == 3
    assert list(read(path)) == [
        {"sequence": 1, "time": 12.5, "kind": "log", "text": "a"},
        {"control": "started", "time": 12.5, "pid": 7},
        {"sequence": 2, "time": 12.5, "kind": "log", "text": "b"},
        {"sequence": 3, "time": 12.5, "kind": "log", "text": "c"},
    ]


def test_the_next_writer_continues_the_numbers(path: Path) -> None:
    for text in ("a", "b", "c"):
        with Journal.open(path) as journal:
            journal.event("log", text=text)
            journal.control("note")
    assert [record["sequence"] for record in read(path) if "sequence" in record] == [1, 2, 3]


def test_a_second_writer_is_refused_until_the_first_lets_go(path: Path) -> None:
    first = Journal.open(path)
    assert is_busy(path)
    with pytest.raises(JournalBusy):
        Journal.open(path)
    first.close()
    first.close()
    assert not is_busy(path)
    Journal.open(path).close()


def test_a_killed_writer_holds_nothing(path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=hold_for_ever, args=(path,))
    process.start()
    try:
        # Nobody asks whether it is busy before it is: who asks holds the lock for a moment.
        while not list(read(path)):
            assert process.is_alive()
        assert is_busy(path)
    finally:
        process.kill()
        process.join()
    with Journal.open(path) as journal:
        assert journal.sequence == 1


def hold_for_ever(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.event("log", text="a")
        while True:
            os.read(os.pipe()[0], 1)


def test_a_missing_journal_is_not_busy_and_empty(path: Path) -> None:
    assert not is_busy(path)
    assert list(read(path)) == []
    assert list(tail(path)) == []
    assert not path.exists()


@given(st.integers(1, 60), st.lists(st.text(max_size=5), min_size=1, max_size=4))
def test_a_torn_last_line_is_dropped_and_its_number_given_again(tmp_path_factory, cut: int, after: list[str]) -> None:
    path = tmp_path_factory.mktemp("torn") / "journal.jsonl"
    with Journal.open(path) as journal:
        journal.events([log("whole"), log("this one will be torn, it is long enough for every cut")])
    os.truncate(path, path.stat().st_size - cut)

    assert [record["text"] for record in read(path)] == ["whole"]
    with Journal.open(path) as journal:
        journal.events([log(text) for text in after])

    records = list(read(path))
    assert [record["sequence"] for record in records] == list(range(1, len(after) + 2))
    assert [record["text"] for record in records] == ["whole", *after]


def test_an_unknown_kind_is_a_mistake_of_the_writer(path: Path) -> None:
    with Journal.open(path) as journal, pytest.raises(ValueError, match="party"):
        journal.event("party")
    assert path.read_bytes() == b""


def test_a_full_disk_leaves_whole_lines_and_the_number_unused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    room = [40]

    def short(descriptor: int, data: bytes) -> int:
        if room[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = write(descriptor, data[: room[0]])
        room[0] -= taken
        return taken

    with Journal.open(path) as journal:
        journal.event("log", text="a")
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", short)
            with pytest.raises(OSError, match="No space"):
                journal.events([log("b"), log("c")])
        assert path.read_bytes() == before
        assert journal.event("log", text="d") == 2


def test_not_a_number_and_odd_texts_survive(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.event("metrics", step=1, values={"loss": float("nan"), "grad_norm": float("inf")})
        journal.event("log", text="\x85\u2028\r\n \ud800 é")
    metrics, entry = read(path)
    assert metrics["values"]["loss"] != metrics["values"]["loss"]
    assert metrics["values"]["grad_norm"] == float("inf")
    assert entry["text"] == "\x85\u2028\r\n \ud800 é"


@pytest.mark.parametrize(("line", "sequence"), [(b'{"sequence":12,"time":1}', 12), (b'{"control":"end"}', 0), (b"", 0)])
def test_a_line_s_number_is_read_without_parsing_it(line: bytes, sequence: int) -> None:
    assert sequence_of(line) == sequence


def test_a_reader_returns_what_is_new_each_time(path: Path) -> None:
    with JournalReader(path) as reader, Journal.open(path) as journal:
        assert reader.read() == []
        journal.event("log", text="a")
        assert [record["text"] for record in reader.read()] == ["a"]
        assert reader.read() == []
        journal.events([log("b"), log("c")])
        assert [record["text"] for record in reader.read()] == ["b", "c"]


def test_a_reader_knows_whether_reading_is_worth_it(path: Path) -> None:
    with JournalReader(path) as reader:
        assert not reader.has_more()
        with Journal.open(path) as journal:
            assert not reader.has_more()
            journal.event("log", text="a")
            # Before and after it was opened.
            assert reader.has_more()
            assert reader.read()
            assert not reader.has_more()
            journal.control("retry")
            assert reader.has_more()
            assert reader.read()
        path.write_bytes(path.read_bytes() + b'{"sequence":2,')
        assert reader.has_more()
        assert reader.read() == []


def test_a_reader_waits_for_the_rest_of_a_half_written_line(path: Path) -> None:
    line = json.dumps({"sequence": 1, "time": 0, "kind": "log", "text": "a"}, separators=(",", ":")).encode() + b"\n"
    with JournalReader(path) as reader:
        for end in range(len(line)):
            path.write_bytes(line[:end])
            assert reader.read() == []
        path.write_bytes(line)
        assert len(reader.read()) == 1


def test_a_reader_after_a_cursor_skips_events_but_no_control_record(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.control("started")
        journal.events([log(str(number)) for number in range(1, 6)])
        journal.control("end")
    records = list(read(path, after_sequence=3))
    assert [record.get("sequence", record.get("control")) for record in records] == ["started", 4, 5, "end"]


def test_a_big_journal_comes_in_bounded_pieces(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.events([log("x" * 1000) for _ in range(2000)])
    with JournalReader(path) as reader:
        pieces = []
        while records := reader.read():
            pieces.append(len(records))
    assert sum(pieces) == 2000
    assert max(pieces) < 300


def test_a_line_longer_than_a_piece_comes_whole(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.events([log("a"), log("x" * 1_500_000), log("b")])
    assert [len(record["text"]) for record in read(path)] == [1, 1_500_000, 1]


def test_a_cursor_at_the_end_of_a_big_journal_still_sees_what_comes(path: Path) -> None:
    with Journal.open(path) as journal, JournalReader(path, after_sequence=5000) as reader:
        journal.events([log("x" * 100) for _ in range(5000)])
        assert reader.read() == []
        journal.event("log", text="new")
        assert [record["sequence"] for record in reader.read()] == [5001]


def test_the_tail_begins_with_a_whole_record(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.events([log(str(number)) for number in range(100)])
    with path.open("ab") as file:
        file.write(b'{"sequence":101,"ti')
    last = [record["text"] for record in tail(path, size=300)]
    assert last[-1] == "99"
    assert 1 < len(last) < 10
    assert len(list(tail(path))) == 100
