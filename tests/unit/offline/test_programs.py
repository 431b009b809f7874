"""The programs of the storage service as children: what they are told, and what becomes of how they end."""

import json
from pathlib import Path

import pytest

from tunesmith.errors import TunesmithError
from tunesmith.offline import renderer
from tunesmith.offline.checker import check

FAKES = Path(__file__).parent / "fake_services"


@pytest.fixture
def program(monkeypatch, tmp_path):
    """Sets how the next programs behave; answers with what they noted."""
    notes = tmp_path / "notes.json"

    def program(**script):
        monkeypatch.setenv("PYTHONPATH", str(FAKES))
        monkeypatch.setenv("FAKE_PROGRAM", json.dumps({"notes": str(notes), **script}))
        return lambda: json.loads(notes.read_text())

    return program


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text("one\ntwo\n")
    return path


VERDICT = json.dumps({"report": {"valid": True, "statistics": {"example_count": "2"}, "added_later": 1}, "accepted": True})


class TestChecker:
    def test_the_file_is_fed_with_the_budget(self, program, file):
        noted = program(stdout=VERDICT + "\n")
        checked = check(file, max_invalid_rows=3, max_invalid_ratio=0.5)
        assert (checked.accepted, checked.report.statistics.example_count, checked.dropped_row_count) == (True, 2, 0)
        assert noted() == {"arguments": ["--max-invalid-rows=3", "--max-invalid-ratio=0.5"], "received": "one\ntwo\n"}

    def test_without_a_budget_nothing_is_said_of_one(self, program, file):
        noted = program(stdout=VERDICT)
        check(file)
        assert noted()["arguments"] == []

    def test_progress_follows_what_was_fed(self, program, file):
        program(stdout=VERDICT)
        seen = []
        check(file, progress=lambda done, total: seen.append((done, total)))
        assert seen == [(8, 8)]

    def test_a_program_that_stops_reading_early_is_heard(self, program, tmp_path):
        path = tmp_path / "large"
        path.write_bytes(b"x" * 3_000_000)
        program(stdout=VERDICT, reads=10)
        assert check(path).accepted

    def test_more_output_than_a_pipe_holds_is_no_deadlock(self, program, file):
        program(stdout=VERDICT, padding=300_000)
        assert check(file).accepted

    def test_a_crash_is_an_error_with_its_last_words(self, program, file):
        program(exit_code=9, stderr="".join(f"line {number}\n" for number in range(20)))
        with pytest.raises(TunesmithError) as caught:
            check(file)
        assert caught.value.reason == "CHECKER_FAILED"
        assert caught.value.message.startswith("the checker ended with exit code 9:\n    line 12\n")
        assert caught.value.message.endswith("line 19")

    def test_a_missing_package_says_how_to_install_it(self, program, file):
        program(exit_code=1, stderr="Traceback\nModuleNotFoundError: No module named 'msgspec'\n")
        with pytest.raises(TunesmithError) as caught:
            check(file)
        assert "No module named 'msgspec'" in caught.value.message
        assert caught.value.hint == "Install the part of storage: pip install 'tunesmith[storage]'"


class TestRenderer:
    def test_rows_are_fed_and_previews_come_back(self, program, tmp_path):
        noted = program(stdout='{"row": "5", "sha256": "ab"}\n{"row": "6"}\n')
        previews = renderer.preview([b"{}\n", b"{}\n"], tmp_path, first_row=5, max_seq_length=64)
        assert [preview.row for preview in previews] == [5, 6]
        arguments = ["preview", "--model", str(tmp_path), "--max-seq-length", "64", "--first-row", "5"]
        assert noted() == {"arguments": arguments, "received": "{}\n{}\n"}

    def test_without_a_length_the_program_chooses(self, program, tmp_path):
        noted = program(stdout='{"token_count": "7"}\n')
        assert renderer.count([b"{}\n"], tmp_path).token_count == 7
        assert noted()["arguments"] == ["analyze", "--model", str(tmp_path)]

    def test_what_is_refused_is_its_own_error(self, program, tmp_path):
        error = {"reason": "CHAT_TEMPLATE_FAILED", "message": "row 1: no", "hint": "Mend it."}
        program(exit_code=3, stdout=json.dumps({"error": error}) + "\n")
        with pytest.raises(TunesmithError) as caught:
            renderer.preview([b"{}\n"], tmp_path, first_row=1)
        assert (caught.value.reason, caught.value.message, caught.value.hint) == tuple(error.values())

    def test_a_crash_is_an_error_with_its_last_words(self, program, tmp_path):
        program(exit_code=-9, stderr="bad\n")
        with pytest.raises(TunesmithError, match="bad") as caught:
            renderer.count([], tmp_path)
        assert caught.value.reason == "RENDERER_FAILED"
