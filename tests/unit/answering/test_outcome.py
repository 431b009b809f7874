"""What a run leaves behind: whole or not at all, in an order that lets nobody read too early."""

import errno
import json
from pathlib import Path

import pytest

from services.common.errors import Unavailable
from services.trainer.answering.__main__ import _as_failure
from services.trainer.answering.outcome import Outcome, save_outcome, write_lines

OUTCOME = Outcome("EVALUATION", "evaluation", {"row_count": 2, "summary": "größer"}, step=4, metrics={"f1_0": 0.5})


def test_lines_are_json_objects_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lines.jsonl"
    write_lines(path, ({"row": number, "text": "ä\n"} for number in (1, 2)))
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"row": 1, "text": "ä\n"}, {"row": 2, "text": "ä\n"}]
    assert "ä" in path.read_text()


def test_nothing_is_an_empty_file(tmp_path: Path) -> None:
    write_lines(tmp_path / "none.jsonl", [])
    assert (tmp_path / "none.jsonl").read_bytes() == b""


def test_a_file_that_breaks_off_does_not_appear_and_leaves_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"

    def broken():
        yield {"row": 1}
        raise OSError(errno.ENOSPC, "no room")

    with pytest.raises(OSError, match="no room"):
        write_lines(path, broken())
    assert not path.exists()
    write_lines(path, [{"row": 7}])
    with pytest.raises(OSError, match="no room"):
        write_lines(path, broken())
    assert json.loads(path.read_text()) == {"row": 7}


def test_the_result_says_what_it_is(tmp_path: Path) -> None:
    save_outcome(OUTCOME, tmp_path)
    record = json.loads((tmp_path / "result.json").read_text())
    assert (record["kind"], record["step"], record["metrics"]) == ("EVALUATION", 4, {"f1_0": 0.5})
    assert record["evaluation"] == json.loads((tmp_path / "output" / "summary.json").read_text()) == OUTCOME.result
    assert list(record["versions"]) == ["tunesmith"]


def test_the_record_appears_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    rename = Path.rename

    def watched(self: Path, target: Path) -> Path:
        seen.append(sorted(path.name for path in tmp_path.rglob("*.json") if not path.name.startswith(".")))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watched)
    save_outcome(OUTCOME, tmp_path)
    assert seen == [[], ["summary.json"]]


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        (OSError(errno.ENOSPC, "No space left"), "DISK_FULL", "the trainer's disk is full: OSError"),
        (OSError(errno.EDQUOT, "quota"), "DISK_FULL", "disk is full"),
        (OSError(errno.EIO, "bad block"), "ANSWERING_FAILED", "bad block"),
        (ValueError("what is this"), "ANSWERING_FAILED", "ValueError: what is this"),
    ],
    ids=["full", "quota", "disk", "anything"],
)
def test_whatever_it_is_becomes_a_failure_with_a_reason(error: Exception, reason: str, words: str) -> None:
    found = _as_failure(error)
    assert found.reason == reason
    assert words in found.message
    assert found.hint


def test_a_failure_of_the_catalogue_stays_as_it_is() -> None:
    error = Unavailable("INFERENCE_UNAVAILABLE", "away")
    assert _as_failure(error) is error
