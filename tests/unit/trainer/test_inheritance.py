"""A new attempt gets the checkpoints of the attempts before it, and keeps them when those go."""

import os
import shutil
from pathlib import Path

from services.trainer import inheritance
from services.trainer.history import History
from services.trainer.inheritance import clear_cut_short, inherit


def checkpoint(directory: Path, step: int, text: str = "x") -> Path:
    path = directory / f"step-{step}"
    path.mkdir(parents=True)
    (path / "manifest.json").write_text(text)
    (path / "shared.safetensors").write_text(text)
    return path


def of(*directories: Path) -> list[tuple[Path, History]]:
    """With histories of runs that have saved whatever is there."""
    return [(path, History(started=True, saved=tuple(each.name for each in path.glob("step-*")))) for path in directories]


def contents(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


def test_every_checkpoint_of_every_older_attempt_is_there_and_the_newest_attempt_counts(tmp_path: Path) -> None:
    checkpoint(tmp_path / "1", 10, "first")
    checkpoint(tmp_path / "1", 20, "first")
    checkpoint(tmp_path / "2", 20, "second")
    assert inherit(tmp_path / "3", of(tmp_path / "2", tmp_path / "1")) == 20
    assert contents(tmp_path / "3") == {
        "step-10/manifest.json": "first",
        "step-10/shared.safetensors": "first",
        "step-20/manifest.json": "second",
        "step-20/shared.safetensors": "second",
    }


def test_a_checkpoint_that_the_journal_does_not_know_is_left_out(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        checkpoint(tmp_path / "2", step)
    # It continued from 10, said that 20 is durable, and was killed before 30 was heard of.
    begun = {"sequence": 1, "kind": "training_started", "resumed_step": 10}
    history = History().after([{"control": "started"}, begun, {"control": "checkpoint", "name": "step-20"}])
    assert inherit(tmp_path / "3", [(tmp_path / "2", history)]) == 20
    assert {path.name for path in (tmp_path / "3").iterdir()} == {"step-10", "step-20"}


def test_a_run_whose_processes_never_started_hands_on_what_it_was_given(tmp_path: Path) -> None:
    checkpoint(tmp_path / "2", 10)
    assert inherit(tmp_path / "3", [(tmp_path / "2", History())]) == 10


def test_the_older_run_may_go(tmp_path: Path) -> None:
    checkpoint(tmp_path / "1", 10)
    inherit(tmp_path / "2", of(tmp_path / "1"))
    shutil.rmtree(tmp_path / "1")
    assert len(contents(tmp_path / "2")) == 2


def test_without_an_older_checkpoint_there_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1/.step-4.part").mkdir()
    (tmp_path / "1/latest").mkdir()
    assert inherit(tmp_path / "3", of(tmp_path / "1", tmp_path / "never")) == 0
    assert not (tmp_path / "3").exists()


def test_it_may_be_repeated_and_changes_nothing_that_is_there(tmp_path: Path) -> None:
    checkpoint(tmp_path / "1", 10, "old")
    checkpoint(tmp_path / "2", 10, "own")
    checkpoint(tmp_path / "2", 30, "own")
    for _ in range(2):
        assert inherit(tmp_path / "2", of(tmp_path / "1")) == 30
    assert set(contents(tmp_path / "2").values()) == {"own"}


def test_a_run_that_is_swept_away_meanwhile_leaves_nothing_half(tmp_path: Path, monkeypatch) -> None:
    checkpoint(tmp_path / "1", 10)
    link = os.link

    def vanishing(source: Path, target: Path) -> None:
        link(source, target)
        shutil.rmtree(tmp_path / "1", ignore_errors=True)

    monkeypatch.setattr(inheritance.os, "link", vanishing)
    assert inherit(tmp_path / "2", of(tmp_path / "1")) == 0
    assert list((tmp_path / "2").iterdir()) == []


def test_what_a_killed_download_or_link_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    checkpoint(tmp_path, 10)
    checkpoint(tmp_path / f".{'0a' * 16}", 20)
    (tmp_path / f".{'1b' * 16}").mkdir()
    (tmp_path / ".step-3.7.part").mkdir()
    (tmp_path / "batch_cut.json").touch()
    clear_cut_short(tmp_path, tmp_path / "missing")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".step-3.7.part", "batch_cut.json", "step-10"]
