"""Backup and restore as a person at the command line sees them; the work itself is replaced."""

import json
import sys

import pytest
from typer.testing import CliRunner

from tunesmith.cli.app import app
from tunesmith.local import backup
from tunesmith.local.errors import LocalError
from tunesmith.local.state import DataDirectory

DONE = {"create_time": "2026-01-01T00:00:00+00:00", "contents": 3, "bytes": 2_000_000, "damaged": [], "copied": 2}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_DATA_DIR", str(tmp_path / "data"))
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_backup_says_what_it_holds(run, monkeypatch, tmp_path):
    monkeypatch.setattr(backup, "save", lambda directory, target, say: DONE)
    result = run("backup", tmp_path / "to")
    assert result.exit_code == 0
    assert "3 contents, 2.0 MB, of 2026-01-01T00:00:00+00:00: saved to" in result.stdout
    assert "2 of them new" in result.stdout
    assert json.loads(run("backup", tmp_path / "to", "--json").stdout) == DONE


def test_a_backup_without_damaged_bytes_is_no_success(run, monkeypatch, tmp_path):
    monkeypatch.setattr(backup, "save", lambda directory, target, say: DONE | {"damaged": ["a", "b"]})
    result = run("backup", tmp_path / "to")
    assert result.exit_code == 1
    assert "2 contents lie damaged" in result.stderr


def test_a_restore_says_how_to_go_on(run, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(backup, "restore", lambda directory, source, say, *, skip_damaged: asked.append(skip_damaged) or DONE)
    result = run("restore", tmp_path)
    place = tmp_path / "data"
    assert f"restored into {place}; start it with: tunesmith up --data-dir {place}" in result.stdout.replace("\n", "")
    assert run("restore", tmp_path, "--skip-damaged").exit_code == 0
    assert asked == [False, True]


def test_a_restore_that_leaves_something_out_is_no_success(run, monkeypatch, tmp_path):
    monkeypatch.setattr(backup, "restore", lambda directory, source, say, *, skip_damaged: DONE | {"damaged": ["a"]})
    result = run("restore", tmp_path, "--json")
    assert (result.exit_code, json.loads(result.stdout)["damaged"]) == (1, ["a"])
    assert "1 contents have no bytes" in result.stderr


async def test_the_process_is_told_what_to_leave_out(monkeypatch, tmp_path):
    package = tmp_path / "services" / "storage" / "backup"
    package.mkdir(parents=True)
    for directory in (package, package.parent, package.parent.parent):
        (directory / "__init__.py").write_text("")
    (package / "__main__.py").write_text("import json, sys; print(json.dumps({'arguments': sys.argv[1:]}))")
    environment = {"PYTHONPATH": ":".join([str(tmp_path), *sys.path])}
    done = await backup._run("restore", tmp_path, environment, "--skip-damaged")
    assert (done["arguments"][0], done["arguments"][3:]) == ("restore", ["--skip-damaged"])


def test_where_no_stack_was_there_is_nothing_to_save(run, tmp_path):
    result = run("backup", tmp_path / "to")
    assert result.exit_code != 0
    assert "holds no stack" in result.stderr


def test_a_directory_without_a_backup_is_refused_before_anything_starts(run, tmp_path):
    result = run("restore", tmp_path)
    assert result.exit_code != 0
    assert "holds no backup" in result.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ('print(\'{"error": {"reason": "SWEEP_RUNNING", "message": "a sweep", "hint": "wait"}}\')', "SWEEP_RUNNING"),
        ("import sys; print('no JSON'); sys.exit('broken')", "BACKUP_FAILED"),
        ("", "BACKUP_FAILED"),
    ],
    ids=["refused", "garbage", "silent"],
)
async def test_what_the_process_says_is_told(monkeypatch, tmp_path, program, reason):
    package = tmp_path / "services" / "storage" / "backup"
    package.mkdir(parents=True)
    for directory in (package, package.parent, package.parent.parent):
        (directory / "__init__.py").write_text("")
    (package / "__main__.py").write_text(program)
    with pytest.raises(LocalError) as caught:
        await backup._run("save", tmp_path, {"PYTHONPATH": ":".join([str(tmp_path), *sys.path])})
    assert caught.value.reason == reason
    assert caught.value.hint


def test_the_process_gets_the_settings_of_storage_and_ports_that_are_kept(monkeypatch, tmp_path):
    for name in ("TUNESMITH_POSTGRES_DSN", "TUNESMITH_S3_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    directory = DataDirectory(tmp_path / "data")
    directory.create()
    first = backup._environment(directory, running_ones=False)
    assert {"TUNESMITH_POSTGRES_DSN", "TUNESMITH_S3_ENDPOINT", "TUNESMITH_S3_BUCKET"} <= first.keys()
    again = backup._environment(directory, running_ones=True)
    assert again["TUNESMITH_POSTGRES_DSN"] == first["TUNESMITH_POSTGRES_DSN"]
