"""Which base model a process that waits reads beforehand."""

import json
from pathlib import Path

import pytest
from trainer_values import TASK, make_request

from services.trainer.run_directory import RunDirectory
from services.trainer.warm_base import likely_base


def model(directory: Path, size: int) -> Path:
    directory.mkdir()
    (directory / "config.json").write_bytes(b"x" * 10)
    (directory / "model.safetensors").write_bytes(b"x" * (size - 10))
    return directory


def prepared(run: RunDirectory, base: Path | None) -> RunDirectory:
    (run.path / "config.json").write_text(json.dumps({"base_model_dir": base and str(base)}))
    return run


@pytest.fixture
def runs(tmp_path: Path) -> list[RunDirectory]:
    return [RunDirectory.create(tmp_path, make_request(name=f"runs/{TASK}-{number}", attempt=number)) for number in (3, 2, 1)]


def test_it_is_that_of_the_newest_run_that_has_one(runs: list[RunDirectory], tmp_path: Path) -> None:
    newest, older = model(tmp_path / "a", 50), model(tmp_path / "b", 50)
    assert likely_base(runs, 100) is None
    prepared(runs[2], older)
    assert likely_base(runs, 100) == older
    prepared(runs[1], newest)
    prepared(runs[0], None)
    assert likely_base(runs, 100) == newest


@pytest.mark.parametrize(("most", "is_read"), [(50, True), (49, False), (0, False)])
def test_a_large_one_is_not_read(runs: list[RunDirectory], tmp_path: Path, most: int, is_read: bool) -> None:
    large = model(tmp_path / "large", 50)
    prepared(runs[1], model(tmp_path / "small", 20))
    prepared(runs[0], large)
    assert likely_base(runs, most) == (large if is_read else None)


def test_one_that_is_gone_is_not_read(runs: list[RunDirectory], tmp_path: Path) -> None:
    prepared(runs[0], tmp_path / "gone")
    assert likely_base(runs, 100) is None


def test_one_that_goes_while_it_is_looked_at_is_not_read(
    runs: list[RunDirectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(runs[0], model(tmp_path / "a", 50))

    def gone(directory: Path) -> None:
        raise FileNotFoundError(directory)

    monkeypatch.setattr(Path, "iterdir", gone)
    assert likely_base(runs, 100) is None
