"""The embedded Postgres: private, durable over stops and kills, never blocked by what a killed one left."""

import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from embedded import bound_to_this_process, running

from tunesmith.local.errors import LocalError
from tunesmith.local.ports import pick_free
from tunesmith.local.postgres import Cluster, environment, identity_prefix

STARTER = "import subprocess, sys, time; print(subprocess.Popen(sys.argv[1:]).pid, flush=True); time.sleep(600)"

pytestmark = pytest.mark.integration


@pytest.fixture
def cluster(tmp_path):
    return Cluster(tmp_path / "pg", "a secret", pick_free(1)[0])


@contextmanager
def server(cluster: Cluster):
    cluster.initialise()
    command = (*identity_prefix(), *bound_to_this_process("SIGINT"), *cluster.command())
    with running(command, environment(), cluster.is_ready, cluster.directory / "log", signal.SIGINT) as process:
        yield process


def connect(cluster: Cluster) -> psycopg.Connection:
    return psycopg.connect(host="127.0.0.1", port=cluster.port, user="tunesmith", password=cluster.password, dbname="tunesmith")


def test_rows_survive_a_stop_and_a_start(cluster):
    with server(cluster), connect(cluster) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    assert not cluster.is_ready()
    with server(cluster), connect(cluster) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (7,)


def test_it_is_postgres_18_with_utf_8_and_checksums(cluster):
    with server(cluster), connect(cluster) as connection:
        for setting, value in (("server_version_num", "18"), ("server_encoding", "UTF8"), ("data_checksums", "on")):
            assert connection.execute("SELECT current_setting(%s)", (setting,)).fetchone()[0].startswith(value)


def test_a_start_after_kill_9_keeps_committed_rows(cluster):
    with server(cluster) as process:
        with connect(cluster) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
        process.kill()
        process.wait()
        assert (cluster.data / "postmaster.pid").exists()
        wait_until_its_children_are_gone(cluster)
        with server(cluster), connect(cluster) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (7,)


def wait_until_its_children_are_gone(cluster: Cluster) -> None:
    """They notice by themselves; until then they hold the shared memory, and the supervisor's back-off bridges that."""
    deadline = time.monotonic() + 30
    while any(str(cluster.data) in words for words in command_lines()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def command_lines() -> list[list[str]]:
    import psutil

    return [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]


def test_a_lock_file_with_the_pid_of_somebody_else_does_not_block(cluster):
    with server(cluster):
        pass
    (cluster.data / "postmaster.pid").write_text(f"{os.getpid()}\n{cluster.data}\n0\n{cluster.port}\n")
    with server(cluster):
        assert cluster.is_ready()


def test_a_server_that_outlived_its_supervisor_is_stopped_first(cluster):
    with server(cluster) as old, server(cluster) as new:
        assert old.wait(timeout=60) == 0
        assert new.poll() is None


def test_an_interrupted_first_start_is_begun_again(cluster):
    half = cluster.directory / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with server(cluster), connect(cluster) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not half.exists()


def test_everything_it_writes_is_private(cluster):
    with server(cluster):
        for path in (cluster.directory, cluster.data, cluster.directory / "password"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_parents_of_the_data_directory_keep_their_permissions(tmp_path):
    tmp_path.chmod(0o700)
    with server(Cluster(tmp_path / "deep" / "pg", "pw", pick_free(1)[0])):
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_a_path_too_long_for_a_socket_works_over_tcp(tmp_path):
    cluster = Cluster(tmp_path / ("x" * 100), "pw", pick_free(1)[0])
    with server(cluster), connect(cluster) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_set_up_that_fails_says_why_and_leaves_nothing(tmp_path, monkeypatch):
    broken = tmp_path / "initdb"
    broken.write_text("#!/bin/sh\necho 'no space left' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr("tunesmith.local.postgres.binary", lambda name: broken)
    cluster = Cluster(tmp_path / "pg", "pw", 1)
    with pytest.raises(LocalError, match="no space left"):
        cluster.initialise()
    assert not cluster.data.exists()


def test_it_stops_when_the_one_who_started_it_is_killed(cluster, tmp_path):
    cluster.initialise()
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, *shim_of_its_parent(cluster)],
        env=dict(environment()),
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    with starter:
        starter.stdout.readline()
        until(cluster.is_ready)
        starter.kill()
    until(lambda: not cluster.is_ready())


def shim_of_its_parent(cluster: Cluster) -> tuple[str, ...]:
    """The supervisor's command line, with the parent's pid filled in by a shell."""
    command = (*identity_prefix(), *bound_to_this_process("SIGINT"), *cluster.command())
    words = [word if word != str(os.getpid()) else '"$PPID"' for word in map(quote, command)]
    return ("sh", "-c", "exec " + " ".join(words))


def quote(word: str) -> str:
    import shlex

    return shlex.quote(word)


def until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_data_directory_may_have_spaces(tmp_path: Path):
    cluster = Cluster(tmp_path / "with space", "pw", pick_free(1)[0])
    with server(cluster), connect(cluster) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
