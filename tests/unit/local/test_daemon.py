"""A stack in the background: started, waited for, refused, ended; tiny scripts stand in for `tunesmith up`."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from tunesmith.local import daemon
from tunesmith.local.errors import LocalError
from tunesmith.local.processes import find, identify
from tunesmith.local.state import DataDirectory, ProcessId, StackState

GONE = ProcessId(2**22 + 1, 1.0)

# Owns the directory and says that it is ready, as `tunesmith up` does.
READY = """
import os, signal, sys, time
from pathlib import Path
from tunesmith.local.processes import identify
from tunesmith.local.state import DataDirectory, StackState
directory = DataDirectory(Path(sys.argv[sys.argv.index("--data-dir") + 1]))
print("arguments", *sys.argv[1:], flush=True)
with directory.locked():
    state = StackState("1", identify(os.getpid()), time.time(), {"storage": "127.0.0.1:1"}, ready=True)
    directory.write_stack(state)
    signal.sigwait({signal.SIGTERM})
"""
SAYS_AND_FAILS = "import sys; [print(f'line {n}') for n in range(20)]; sys.exit('error[PORT_TAKEN]: port 1 is taken')"
SLEEPER = "import time; print('up', flush=True); time.sleep(600)"


@pytest.fixture
def directory(tmp_path):
    directory = DataDirectory(tmp_path / "data")
    directory.create()
    return directory


@pytest.fixture
def instead_of_up(monkeypatch):
    """Run a script in the place of the command; ended with the test."""
    started = []
    really = subprocess.Popen

    def use(code: str):
        def popen(command, **options):
            environment = {**os.environ, "PYTHONPATH": os.getcwd()}
            started.append(really([sys.executable, "-c", code, *command], env=environment, **options))
            return started[-1]

        monkeypatch.setattr(daemon.subprocess, "Popen", popen)
        return started

    yield use
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def process():
    with subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, text=True) as started:
        started.stdout.readline()
        yield started
        started.kill()


def a_state(supervisor: ProcessId, **processes: ProcessId) -> StackState:
    return StackState("1", supervisor, time.time(), {}, processes)


class TestRunning:
    def test_nothing_ever_started_is_nothing_running(self, tmp_path):
        assert daemon.running(DataDirectory(tmp_path / "none")) is None

    def test_a_state_without_an_owner_is_a_left_over(self, directory):
        directory.write_stack(a_state(GONE))
        assert daemon.running(directory) is None

    def test_an_owner_that_wrote_nothing_yet_is_not_running(self, directory):
        with directory.locked():
            assert daemon.running(directory) is None

    def test_what_runs_is_what_its_owner_wrote(self, directory):
        state = a_state(identify(os.getpid()))
        with directory.locked():
            directory.write_stack(state)
            assert daemon.running(directory) == daemon.running_or_fail(directory) == state

    def test_nothing_running_is_an_error_with_the_way_to_start_it(self, directory):
        with pytest.raises(LocalError) as caught:
            daemon.running_or_fail(directory)
        assert (caught.value.reason, caught.value.hint) == ("NOT_RUNNING", "Start it with: tunesmith up")
        assert str(directory.root) in caught.value.message


class TestStart:
    def test_it_returns_once_the_stack_says_that_it_is_ready(self, directory, instead_of_up):
        instead_of_up(READY)
        background = daemon.start(directory, ["--free-ports"])
        assert background.state.ready
        assert background.state.supervisor.pid == background.process.pid
        said = (directory.logs / "up.log").read_text()
        assert said.strip().endswith(f"-m tunesmith.cli up --data-dir {directory.root} --free-ports")
        assert "tunesmith.local.child" not in said
        assert daemon.stop(directory)
        assert background.process.wait() == 0

    def test_a_stack_that_ends_with_us_is_started_through_the_shim(self, directory, instead_of_up):
        instead_of_up(READY)
        daemon.start(directory, [], bound_to_us=True)
        assert f"-m tunesmith.local.child SIGTERM {os.getpid()} {sys.executable}" in (directory.logs / "up.log").read_text()
        daemon.stop(directory)

    def test_one_that_ends_instead_is_an_error_with_its_last_words_only(self, directory, instead_of_up):
        instead_of_up(SAYS_AND_FAILS)
        with pytest.raises(LocalError) as caught:
            daemon.start(directory, [])
        assert caught.value.reason == "STACK_DID_NOT_START"
        lines = caught.value.message.splitlines()
        assert len(lines) == 13
        assert "error[PORT_TAKEN]: port 1 is taken" in caught.value.message
        assert caught.value.hint == f"The whole log: {directory.logs / 'up.log'}"

    def test_one_that_ends_silently_is_not_given_the_words_of_an_earlier_one(self, directory, instead_of_up):
        (directory.logs / "up.log").write_text("of another start\n")
        instead_of_up("")
        with pytest.raises(LocalError) as caught:
            daemon.start(directory, [])
        assert caught.value.message == "the stack did not start; it said:"

    def test_a_second_one_is_refused_before_anything_is_started(self, directory, instead_of_up):
        started = instead_of_up(READY)
        with directory.locked(), pytest.raises(LocalError) as caught:
            daemon.start(directory, [])
        assert caught.value.reason == "ALREADY_RUNNING"
        assert started == []


class TestStop:
    def test_without_a_state_there_is_nothing_to_end(self, directory):
        assert not daemon.stop(directory)

    def test_a_state_of_processes_that_are_gone_is_cleared_away(self, directory):
        directory.write_stack(a_state(GONE, storage=GONE))
        assert not daemon.stop(directory)
        assert directory.read_stack() is None

    def test_the_supervisor_is_asked_to_end(self, directory, process):
        identity = identify(process.pid)
        directory.write_stack(a_state(identity))
        assert daemon.stop(directory)
        assert find(identity) is None
        assert directory.read_stack() is None

    def test_services_that_outlived_their_supervisor_are_ended(self, directory, process):
        identity = identify(process.pid)
        directory.write_stack(a_state(GONE, storage=identity))
        assert daemon.stop(directory)
        assert find(identity) is None

    def test_a_stranger_who_has_the_pid_by_now_is_left_alone(self, directory, process):
        stranger = identify(process.pid)
        directory.write_stack(a_state(ProcessId(process.pid, stranger.create_time - 100), storage=GONE))
        assert not daemon.stop(directory)
        assert find(stranger) is not None
        assert psutil.Process(process.pid).is_running()
