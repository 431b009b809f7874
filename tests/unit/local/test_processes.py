"""Processes are told apart by pid and birth, and ended with their families."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from tunesmith.local import processes
from tunesmith.local.processes import end, find, identify, reap_orphans, wait_until_gone, with_descendants
from tunesmith.local.state import ProcessId

FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"


@pytest.fixture
def start():
    started = []

    def start(code: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        started.append(process)
        process.first_line = process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_living_process_is_found_by_its_identity():
    identity = identify(os.getpid())
    assert find(identity).pid == os.getpid()


def test_another_process_with_the_same_pid_is_not_it():
    identity = identify(os.getpid())
    assert find(ProcessId(identity.pid, identity.create_time - 100)) is None


def test_a_process_that_is_gone_or_a_zombie_is_not_found(start):
    process = start("print(1)")
    identity = ProcessId(process.pid, psutil.Process(process.pid).create_time())
    deadline = time.monotonic() + 10
    while find(identity) is not None:
        assert time.monotonic() < deadline
    process.wait()
    assert find(identity) is None
    assert identify(2**22 + 1) is None


def dead(start) -> subprocess.Popen[str]:
    """A child that nobody has collected yet."""
    process = start("print(1)")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process


def test_a_dead_child_is_collected_unless_it_is_ones_own(start):
    stranger, own = dead(start), dead(start)
    # What else this process has started is not touched either.
    others = {child.pid for child in psutil.Process().children()} - {stranger.pid}
    reap_orphans(others)
    assert not psutil.pid_exists(stranger.pid)
    assert own.pid in others
    assert psutil.Process(own.pid).status() == psutil.STATUS_ZOMBIE


def test_while_no_child_is_dead_no_process_is_looked_at(start, monkeypatch):
    start("import time; print(1, flush=True); time.sleep(600)")
    for child in psutil.Process().children():
        if child.status() == psutil.STATUS_ZOMBIE:
            os.waitpid(child.pid, 0)
    monkeypatch.setattr(processes.psutil, "Process", lambda: pytest.fail("every process of the machine was looked at"))
    reap_orphans(set())


def test_a_family_is_ended_with_members_in_sessions_of_their_own(start):
    parent = start(FAMILY)
    child = psutil.Process(int(parent.first_line))
    family = with_descendants([identify(parent.pid)])
    assert {process.pid for process in family} == {parent.pid, child.pid}
    end(family, patience_seconds=5)
    assert not any(process.is_running() for process in family)


def test_those_who_ignore_the_signal_are_killed_after_the_patience(start):
    stubborn = start(STUBBORN)
    identity = identify(stubborn.pid)
    end(with_descendants([identity]), patience_seconds=0.1)
    assert find(identity) is None


def test_ending_what_is_gone_already_is_fine(start):
    process = start(STUBBORN)
    family = with_descendants([identify(process.pid)])
    process.kill()
    process.wait()
    end(family, patience_seconds=1)


def test_waiting_has_a_deadline(start):
    identity = identify(start(STUBBORN).pid)
    assert not wait_until_gone(identity, time.monotonic() - 1)


def test_nothing_known_has_no_family():
    assert with_descendants([ProcessId(2**22 + 1, 1.0)]) == []
