"""The data directory: private, locked, and what is kept in it."""

import os
import stat
from pathlib import Path

import pytest

from tunesmith.local.errors import LocalError
from tunesmith.local.state import DataDirectory, KeptSettings, ProcessId, StackState, data_directory


@pytest.fixture
def directory(tmp_path):
    directory = DataDirectory(tmp_path / "stack")
    directory.create()
    return directory


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


STATE = StackState(
    "1.0", ProcessId(1, 2.5), 3.0, {"storage": "here:1"}, {"storage": ProcessId(4, 5.5)}, {"storage": 2}, ready=True
)


def test_it_is_made_private_and_made_private_again(tmp_path):
    root = tmp_path / "open"
    root.mkdir(mode=0o755)
    DataDirectory(root).create()
    assert mode(root) == 0o700
    assert mode(root / "logs") == 0o700


def test_a_place_that_cannot_be_used_says_why(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(LocalError) as caught:
        DataDirectory(file / "below").create()
    assert caught.value.reason == "DATA_DIRECTORY_UNUSABLE"
    assert "--data-dir" in caught.value.hint


def test_only_one_owner_at_a_time_and_the_second_learns_who(directory):
    with directory.locked():
        assert directory.is_locked()
        with pytest.raises(LocalError) as caught, DataDirectory(directory.root).locked():
            pass
    assert caught.value.reason == "ALREADY_RUNNING"
    assert f"(pid {os.getpid()})" in caught.value.message
    assert not directory.is_locked()


def test_the_state_of_the_stack_survives_writing_and_is_private(directory):
    directory.write_stack(STATE)
    assert directory.read_stack() == STATE
    assert mode(directory.root / "stack.json") == 0o600
    directory.remove_stack()
    assert directory.read_stack() is None


def test_settings_are_made_once_and_kept(directory):
    first = directory.read_settings()
    assert first != directory.read_settings(), "secrets are random until they are kept"
    directory.write_settings(first)
    assert directory.read_settings() == first
    assert mode(directory.root / "settings.json") == 0o600


def test_a_broken_file_is_named(directory):
    (directory.root / "settings.json").write_text("{")
    with pytest.raises(LocalError) as caught:
        directory.read_settings()
    assert "settings.json" in caught.value.message


def test_the_directory_is_the_one_given_or_named_or_at_home(monkeypatch, tmp_path):
    monkeypatch.delenv("TUNESMITH_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_directory().root == tmp_path / ".tunesmith"
    monkeypatch.setenv("TUNESMITH_DATA_DIR", str(tmp_path / "named"))
    assert data_directory().root == tmp_path / "named"
    assert data_directory(tmp_path / "given").root == tmp_path / "given"


def test_secrets_are_long():
    kept = DataDirectory(Path("/nonexistent")).read_settings()
    assert isinstance(kept, KeptSettings)
    assert min(len(kept.postgres_password), len(kept.s3_access_key), len(kept.s3_secret_key)) >= 20
