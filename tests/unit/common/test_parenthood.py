"""Processes end with the one that started them."""

import os
import pathlib
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[3]
CHILD = """
import sys
from services.common.parenthood import die_with
die_with(int(sys.argv[1]))
print("lives", flush=True)
sys.stdin.read()
"""
PARENT = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}, str(os.getpid())], stdin=subprocess.PIPE)
print(child.pid, flush=True)
sys.stdin.read()
"""
ADOPTS = """
import os, subprocess, sys
from services.common.parenthood import adopt_orphans
adopt_orphans()
lost = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()']).pid)"
pid = int(subprocess.run([sys.executable, "-c", lost], capture_output=True, stdin=open(os.devnull), check=True).stdout)
print(os.waitpid(pid, 0)[0] == pid)
"""


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes)


def test_a_child_is_killed_with_its_parent() -> None:
    with start(PARENT) as parent:
        said = {parent.stdout.readline().strip() for _ in range(2)}
        assert "lives" in said
        parent.send_signal(signal.SIGKILL)
        # The child has the other end of this pipe, so it reads until both are gone.
        assert parent.stdout.read() == ""


def test_a_child_whose_parent_has_died_already_ends_at_once() -> None:
    with start(CHILD, str(os.getppid())) as child:
        assert child.stdout.read() == ""
    assert child.returncode == 1


def test_a_process_becomes_the_parent_of_its_orphans() -> None:
    with start(ADOPTS) as process:
        assert process.communicate()[0].strip() == "True"
