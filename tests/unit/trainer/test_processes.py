"""Processes are told apart for all time, found by what they carry, and killed only when they are meant."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.trainer import processes
from services.trainer.processes import RUN_VARIABLE, Identity

SLEEP = "import sys, time; print('up', flush=True); time.sleep(300)"
WITH_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}], start_new_session=True)"


@pytest.fixture
def spawn() -> Iterator:
    started: list[subprocess.Popen] = []

    def start(code: str = SLEEP, *, run: str = "", session: bool = False) -> subprocess.Popen:
        environment = {**os.environ, **({RUN_VARIABLE: run} if run else {})}
        process = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, start_new_session=session
        )
        assert process.stdout
        process.stdout.readline()
        started.append(process)
        return process

    yield start
    for process in started:
        for pid in processes.descendants(process.pid) | {process.pid}:
            processes.kill({pid})
        process.communicate()


def test_a_process_is_itself_and_nobody_else(spawn) -> None:
    process = spawn()
    identity = processes.identify(process.pid)
    assert identity is not None
    assert identity.is_alive()
    assert not dataclasses.replace(identity, start_ticks=identity.start_ticks - 1).is_alive()
    assert not dataclasses.replace(identity, boot="another").is_alive()


def test_a_zombie_is_not_alive(spawn) -> None:
    process = spawn()
    identity = processes.identify(process.pid)
    assert identity is not None
    process.kill()
    until(lambda: not identity.is_alive())
    assert process.returncode is None
    assert processes.identify(process.pid) is None


def test_a_signal_reaches_only_the_one_it_is_meant_for(spawn) -> None:
    process = spawn()
    identity = processes.identify(process.pid)
    assert identity is not None
    dataclasses.replace(identity, start_ticks=1).send(signal.SIGKILL)
    assert process.poll() is None
    identity.send(signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM
    identity.send(signal.SIGTERM)


def test_descendants_are_found_in_every_session(spawn) -> None:
    process = spawn(WITH_CHILD)
    [child] = processes.descendants(process.pid)
    assert os.getsid(child) == child
    assert process.pid in processes.descendants(os.getpid())


def test_a_run_s_processes_are_found_by_their_environment(spawn, tmp_path: Path) -> None:
    mine = spawn(run=str(tmp_path), session=True)
    other = spawn(run=str(tmp_path / "other"), session=True)
    found = processes.of_run(tmp_path, None)
    assert found == {mine.pid}
    processes.kill(found)
    assert mine.wait(10) == -signal.SIGKILL
    assert other.poll() is None


def a_proc(root: Path, *, flags: int, environment: bytes = b"", arguments: bytes = b"") -> Path:
    """The directory of process 7, as Linux shows it."""
    place = root / "7"
    place.mkdir(parents=True)
    (place / "stat").write_text(f"7 (a (b) c) S 1 7 7 0 -1 {flags} " + "0 " * 12 + "99 0")
    (place / "environ").write_bytes(environment)
    (place / "cmdline").write_bytes(arguments)
    return place


def test_a_process_is_found_while_it_turns_into_its_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = a_proc(tmp_path / "proc", flags=0)
    monkeypatch.setattr(processes, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(
        processes.time, "sleep", lambda _: (place / "environ").write_bytes(b"A=1\0TUNESMITH_RUN_DIRECTORY=/run\0")
    )
    assert processes.of_run(Path("/run"), None) == {7}


@pytest.mark.parametrize(
    ("flags", "arguments"), [(0x00200000, b""), (0, b"sleep\0")], ids=["thread of the kernel", "started with nothing"]
)
def test_nobody_waits_for_what_has_no_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: int, arguments: bytes
) -> None:
    a_proc(tmp_path / "proc", flags=flags, arguments=arguments)
    monkeypatch.setattr(processes, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(processes.time, "sleep", lambda _: pytest.fail("it waits"))
    assert processes.of_run(Path("/run"), None) == set()


def test_a_process_that_never_becomes_anything_is_nobody_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    a_proc(tmp_path / "proc", flags=0)
    waits: list[float] = []
    monkeypatch.setattr(processes, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(processes.time, "sleep", waits.append)
    assert processes.of_run(Path("/run"), None) == set()
    assert sum(waits) <= 0.2


def test_a_run_s_processes_are_found_by_the_session_of_their_supervisor(spawn, tmp_path: Path) -> None:
    leader = spawn(session=True)
    identity = processes.identify(leader.pid)
    assert identity is not None
    assert processes.of_run(tmp_path, identity) == {leader.pid}


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot": "another"}])
def test_a_session_number_given_out_anew_is_left_alone(spawn, tmp_path: Path, change: dict) -> None:
    leader = spawn(session=True)
    identity = processes.identify(leader.pid)
    assert identity is not None
    assert processes.of_run(tmp_path, dataclasses.replace(identity, **change)) == set()


def test_nobody_is_found_for_a_run_without_processes(tmp_path: Path) -> None:
    assert processes.of_run(tmp_path, Identity(2**22 + 1, 1, "b")) == set()
    processes.kill({2**22 + 1})


def until(predicate) -> None:
    deadline = time.monotonic() + 20
    while not predicate():
        assert time.monotonic() < deadline
        time.sleep(0.005)
