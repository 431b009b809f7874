"""Answers on disk: whole or not at all, one for each row."""

import concurrent.futures
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.trainer.answering.answer_file import AnswerFile
from services.trainer.evaluating.values import Answer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers" / "model-0.jsonl"


def test_answers_are_there_after_opening_again(path: Path) -> None:
    given = [Answer(2, 'zwei\n"', "STOP", 0.5, 7), Answer(1, reason="X", message="too long"), Answer(3, "\ud800")]
    with AnswerFile.open(path, "m") as file:
        for answer in given:
            file.append(answer)
    with AnswerFile.open(path, "m") as file:
        assert len(file) == 3
        assert [file[answer.row] for answer in given] == given
        assert 2 in file
        assert 4 not in file
        with pytest.raises(KeyError):
            file[4]


def test_a_second_answer_to_a_row_is_dropped(path: Path) -> None:
    with AnswerFile.open(path, "m") as file:
        file.append(Answer(1, "first"))
        file.append(Answer(1, "second"))
        assert (len(file), file[1].text) == (1, "first")
    assert path.read_text().count("\n") == 2


def test_answers_of_another_model_are_no_answers(path: Path) -> None:
    with AnswerFile.open(path, "m") as file:
        file.append(Answer(1, "mine"))
    with AnswerFile.open(path, "other") as file:
        assert len(file) == 0
    assert "mine" not in path.read_text()


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_wherever_a_crash_cuts_the_file_whole_answers_stay_and_the_rest_is_written_again(tmp_path_factory, data) -> None:
    path = tmp_path_factory.mktemp("cut") / "answers.jsonl"
    rows = range(1, 6)
    with AnswerFile.open(path, "m") as file:
        for row in rows:
            file.append(Answer(row, f"answer {row}"))
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    with AnswerFile.open(path, "m") as file:
        assert all(file[row].text == f"answer {row}" for row in rows if row in file)
        for row in rows:
            file.append(Answer(row, f"answer {row}"))
    assert path.read_bytes() == whole


def test_threads_may_append_at_the_same_time(path: Path) -> None:
    with AnswerFile.open(path, "m") as file, concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(file.append, (Answer(row, "x" * row) for row in range(1, 101))))
        assert [len(file[row].text) for row in range(1, 101)] == list(range(1, 101))
    assert path.read_text().count("\n") == 101


def test_a_full_disk_leaves_no_half_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with AnswerFile.open(path, "m") as file:
        file.append(Answer(1, "a"))
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr("services.trainer.answering.answer_file.os.fsync", _full)
            with pytest.raises(OSError, match="no room"):
                file.append(Answer(2, "b"))
        assert path.read_bytes() == before
        file.append(Answer(2, "b"))
        assert file[2].text == "b"


def _full(_: int) -> None:
    raise OSError(28, "no room")
