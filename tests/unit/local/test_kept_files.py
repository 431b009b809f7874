"""Files of the data directory and ports: who may read them, what survives, and what a second owner is told."""

import json
import os
import socket
import stat
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from tunesmith.local import ports
from tunesmith.local.errors import LocalError
from tunesmith.local.ports import DEFAULT_PORTS, keep_or_pick, parse_overrides, pick_free, require_free
from tunesmith.local.processes import find
from tunesmith.local.screen import Screen
from tunesmith.local.stack import Options, _choose_ports, _end_survivors
from tunesmith.local.state import DataDirectory, KeptSettings, ProcessId, StackState, data_directory

OWNER = """
import sys
from pathlib import Path
from tunesmith.local.state import DataDirectory
with DataDirectory(Path(sys.argv[1])).locked():
    print("owned", flush=True)
    sys.stdin.read()
"""
STATE = StackState("1", ProcessId(1, 1.5), 2.5, {"storage": "here:1"})


@pytest.fixture
def directory(tmp_path):
    directory = DataDirectory(tmp_path / "stack")
    directory.create()
    return directory


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestFiles:
    @pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
    def test_secrets_and_state_are_ours_alone_under_every_umask(self, tmp_path, mask):
        before = os.umask(mask)
        try:
            directory = DataDirectory(tmp_path / "stack")
            directory.create()
            directory.write_settings(directory.read_settings())
            directory.write_stack(STATE)
        finally:
            os.umask(before)
        assert (mode(directory.root), mode(directory.logs)) == (0o700, 0o700)
        assert mode(directory.root / "settings.json") == mode(directory.root / "stack.json") == 0o600

    def test_a_file_that_was_opened_to_others_is_closed_by_the_next_writing(self, directory):
        directory.write_settings(directory.read_settings())
        (directory.root / "settings.json").chmod(0o644)
        directory.write_settings(directory.read_settings())
        assert mode(directory.root / "settings.json") == 0o600

    def test_writing_replaces_the_file_and_leaves_nothing_beside_it(self, directory):
        (directory.root / "stack.new").write_text("half of an earlier writing")
        for ready in (False, True):
            directory.write_stack(replace(STATE, ready=ready))
        assert [path.name for path in directory.root.iterdir() if path.is_file()] == ["stack.json"]
        assert directory.read_stack().ready

    def test_a_reader_of_the_old_file_is_not_disturbed(self, directory):
        directory.write_stack(STATE)
        with (directory.root / "stack.json").open() as old:
            directory.write_stack(replace(STATE, version="2"))
            assert json.load(old)["version"] == "1"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "not json",
            '{"version": ',
            "[]",
            "7",
            "{}",
            '{"unknown": 1}',
            '{"supervisor": 7, "processes": {}}',
            '{"supervisor": {"pid": 1, "create_time": 1.0}, "processes": []}',
            '{"version": "1", "supervisor": {"pid": 1, "create_time": 1}, "started_at": 1, "addresses": 5, "processes": {}}',
        ],
    )
    @pytest.mark.parametrize("name", ["stack", "settings"])
    def test_a_file_that_is_no_json_is_named_with_what_to_do(self, directory, name, text):
        path = directory.root / f"{name}.json"
        path.write_text(text)
        with pytest.raises(LocalError) as caught:
            getattr(directory, f"read_{name}")()
        assert caught.value.reason == "STATE_UNREADABLE"
        assert caught.value.hint == f"Remove {path} and start again."

    def test_settings_of_an_earlier_start_without_newer_fields_are_read(self, directory):
        kept = asdict(directory.read_settings())
        for newer in ("postgres_ports", "s3_ports", "service_ports"):
            del kept[newer]
        (directory.root / "settings.json").write_text(json.dumps(kept))
        assert directory.read_settings() == KeptSettings(**kept)

    def test_two_directories_never_share_a_secret(self, tmp_path):
        first, second = (DataDirectory(tmp_path / name).read_settings() for name in "ab")
        assert not {first.postgres_password, first.s3_access_key, first.s3_secret_key} & set(map(str, asdict(second).values()))

    def test_removing_a_state_twice_is_fine(self, directory):
        directory.write_stack(STATE)
        directory.remove_stack()
        directory.remove_stack()
        assert directory.read_stack() is None

    @pytest.mark.parametrize("given", ["~/kept", "relative"])
    def test_the_root_is_always_absolute(self, monkeypatch, tmp_path, given):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        assert DataDirectory(Path(given)).root == tmp_path / given.removeprefix("~/")

    def test_an_empty_setting_is_no_directory(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("TUNESMITH_DATA_DIR", "")
        assert data_directory().root == tmp_path / ".tunesmith"


class TestLock:
    @pytest.fixture
    def owner(self, directory):
        command = [sys.executable, "-c", OWNER, str(directory.root)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.getcwd()}, **pipes) as process:
            process.stdout.readline()
            yield process
            process.kill()

    def test_the_owner_is_named_by_its_pid(self, directory, owner):
        assert directory.is_locked()
        with pytest.raises(LocalError, match=rf"\(pid {owner.pid}\)"), directory.locked():
            pass

    def test_a_refused_second_owner_does_not_erase_the_first_ones_name(self, directory, owner):
        for _ in range(2):
            with pytest.raises(LocalError, match=str(owner.pid)), directory.locked():
                pass

    def test_an_owner_that_was_killed_owns_nothing(self, directory, owner):
        owner.kill()
        owner.wait()
        assert not directory.is_locked()
        with directory.locked():
            assert (directory.root / "lock").read_text() == str(os.getpid())

    def test_asking_takes_nothing_and_makes_nothing(self, tmp_path, directory):
        assert not DataDirectory(tmp_path / "none").is_locked()
        assert not (tmp_path / "none").exists()
        with directory.locked():
            pass
        assert [directory.is_locked() for _ in range(3)] == [False] * 3

    def test_what_outlived_its_supervisor_is_ended_before_a_new_start(self, directory, owner):
        identity = ProcessId(owner.pid, psutil.Process(owner.pid).create_time())
        directory.write_stack(replace(STATE, processes={"storage": identity}))
        _end_survivors(directory)
        assert find(identity) is None
        assert directory.read_stack() is None

    def test_without_a_state_nothing_is_ended(self, directory, owner):
        _end_survivors(directory)
        assert owner.poll() is None


class TestPorts:
    @pytest.fixture
    def taken(self):
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
            yield server.getsockname()[1]

    def test_every_taken_port_is_named_at_once(self, taken):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            second = other.getsockname()[1]
            with pytest.raises(LocalError) as caught:
                require_free({"storage": taken, "trainer": second, "inference": pick_free(1)[0]})
        assert f"port {taken} of storage is taken by " in caught.value.message
        assert f"; port {second} of trainer is taken by " in caught.value.message
        assert "inference" not in caught.value.message

    def test_an_owner_that_cannot_be_told_is_left_out(self, taken, monkeypatch):
        def denied(kind):
            raise psutil.AccessDenied

        monkeypatch.setattr(psutil, "net_connections", denied)
        with pytest.raises(LocalError) as caught:
            require_free({"storage": taken})
        assert caught.value.message == f"port {taken} of storage is taken"

    def test_free_ports_pass(self):
        assert require_free(dict(zip(DEFAULT_PORTS, pick_free(len(DEFAULT_PORTS)), strict=True))) is None

    def test_a_port_given_to_two_services_is_a_mistake_even_while_it_is_free(self):
        ports, _ = _choose_ports(Options(ports={"storage": DEFAULT_PORTS["trainer"]}), KeptSettings("a", "b", "c"))
        with pytest.raises(LocalError) as caught:
            require_free(ports)
        assert caught.value.reason == "PORT_INVALID"

    @pytest.mark.parametrize("count", [0, 1, 10])
    def test_as_many_ports_are_picked_as_asked_for(self, count):
        assert len(set(pick_free(count))) == count

    @pytest.mark.parametrize(("remembered", "count"), [([], 1), ([1, 2], 1), ([1], 2)])
    def test_remembered_ports_of_another_number_are_of_no_use(self, monkeypatch, remembered, count):
        monkeypatch.setattr(ports, "is_free", lambda port: True)
        picked = keep_or_pick(remembered, count)
        assert len(picked) == count
        assert not set(picked) & set(remembered)

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([], {}),
            (["storage=1", "storage=2"], {"storage": 2}),
            ([" task-manager =65535"], {"task_manager": 65535}),
            ([f"{service}=1" for service in DEFAULT_PORTS], dict.fromkeys(DEFAULT_PORTS, 1)),
        ],
    )
    def test_overrides_are_numbers_by_service_the_last_counts(self, values, expected):
        assert parse_overrides(values) == expected

    @pytest.mark.parametrize("value", ["", "=", "=1", "storage=-1", "storage=1.5", "storage=1=2", "postgres=6000", "6000"])
    def test_what_is_no_override_is_quoted(self, value):
        with pytest.raises(LocalError) as caught:
            parse_overrides(["trainer=6000", value])
        assert caught.value.message == f"--port {value} is not SERVICE=PORT"


class TestScreen:
    @pytest.fixture
    def shown(self):
        class Console:
            lines = []

            def print(self, text, **_):
                self.lines.append(text.plain)

        console = Console()
        return Screen(console), console.lines

    def test_the_stack_and_its_parts_speak_in_one_column(self, shown):
        screen, lines = shown
        screen.say("stopping")
        screen.report("task_manager", "was killed by SIGKILL")
        assert lines == ["   tunesmith │ stopping", "task_manager │ was killed by SIGKILL"]

    def test_the_usual_directory_needs_no_mention(self, shown, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        screen, lines = shown
        screen.ready(1.0, {}, str(tmp_path / ".tunesmith"), "sk-1")
        assert not [line for line in lines if "TUNESMITH_DATA_DIR" in line]
        assert len(lines) == 4


def test_the_key_of_the_gateway_is_made_once_and_for_its_owner_only(tmp_path):
    directory = DataDirectory(tmp_path)
    directory.create()
    key = directory.api_key()
    file = tmp_path / "api_key"
    assert key.startswith("sk-tunesmith-")
    assert len(key) > 40
    assert file.stat().st_mode & 0o777 == 0o600
    assert directory.api_key() == key
    file.write_text("sk-mine\n")
    assert directory.api_key() == "sk-mine"


def test_an_empty_key_is_no_key(tmp_path):
    (tmp_path / "api_key").write_text("\n")
    with pytest.raises(LocalError, match="is empty"):
        DataDirectory(tmp_path).api_key()
