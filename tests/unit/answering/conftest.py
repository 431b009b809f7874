"""Rows to ask, and no pauses between tries."""

from pathlib import Path

import pytest

from services.trainer.answering import asking
from tests.unit.answering.scripted_runs import chat, write


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_FIRST_PAUSE", 0.0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    write(path, [chat(f"q{n}", "even" if n % 2 == 0 else "odd") for n in range(1, 21)])
    return path
