"""Every check says what it found, and a failed one how to mend it."""

import shutil

import pytest

from tests.fake_platform import serving
from tunesmith.local import doctor
from tunesmith.local.errors import LocalError
from tunesmith.local.state import DataDirectory


@pytest.fixture
def directory(tmp_path):
    return DataDirectory(tmp_path / "data")


@pytest.fixture
def checks(directory, monkeypatch):
    """The findings by name; programs are not really run."""
    monkeypatch.setattr(doctor, "_version_of", lambda program, argument: f"{program.name} 1.0")

    def examine():
        return {check.name: check for check in doctor.examine(directory)}

    return examine


def test_on_a_machine_with_everything_all_is_well(checks):
    failed = [check for check in checks().values() if not check.ok and not check.name.startswith("port ")]
    assert failed == []


def test_a_package_that_is_missing_is_a_failure_with_its_fix(checks, monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("no-such-package",))
    check = checks()["no-such-package"]
    assert (check.ok, check.found) == (False, "not installed")
    assert "pip install" in check.fix


def test_a_program_that_does_not_run_is_a_failure(monkeypatch, tmp_path):
    broken = tmp_path / "postgres"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(LocalError) as caught:
        doctor._version_of(broken, "--version")
    assert caught.value.reason == "PROGRAM_BROKEN"


def test_a_problem_of_a_part_becomes_a_failed_check(checks, monkeypatch):
    def missing():
        raise LocalError("OBJECT_STORE_MISSING", "no weed", "install it")

    monkeypatch.setattr(doctor.object_store, "binary", missing)
    check = checks()["object store"]
    assert (check.ok, check.found, check.fix) == (False, "no weed", "install it")


def test_a_data_directory_others_can_read_is_a_failure(checks, directory):
    assert checks()["data directory"].ok
    directory.create()
    assert checks()["data directory"].ok
    directory.root.chmod(0o755)
    check = checks()["data directory"]
    assert not check.ok
    assert check.fix.startswith(f"chmod 700 {directory.root}")


def test_a_full_disk_is_a_failure(checks, monkeypatch):
    usage = type(shutil.disk_usage("/"))(10**12, 10**12, 10**9)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    check = checks()["disk"]
    assert (check.ok, check.found) == (False, "1.0 GB free")


@pytest.mark.parametrize(
    ("damages", "found"),
    [
        ([], "3 contents, 2.0 GB, none known to be damaged"),
        ([["artifacts/1", "models/m/versions/1"]], "1 damaged, of artifacts/1, models/m/versions/1"),
        (
            [[f"artifacts/{n}" for n in range(7)], ["artifacts/0"]],
            "2 damaged, of artifacts/0, artifacts/1,",
        ),
    ],
    ids=["none", "one", "many"],
)
def test_what_the_scrubber_has_found_is_told(damages, found):
    with serving() as platform:
        for owners in damages:
            platform.artifacts.check.damages.add(owners=owners)
        check = doctor._stored_bytes(platform.address)
    assert (check.ok, check.found.startswith(found)) == (not damages, True)
    assert "artifact notices" in check.fix


def test_a_storage_service_that_cannot_tell_is_a_failure():
    check = doctor._stored_bytes("127.0.0.1:1")
    assert not check.ok
    assert check.fix


def test_without_a_stack_the_ports_are_checked(checks, monkeypatch):
    monkeypatch.setattr(doctor, "is_free", lambda port: port != 50053)
    found = checks()
    assert found["port 50051"].ok
    assert not found["port 50053"].ok
    assert "--port storage=NUMBER" in found["port 50053"].fix
