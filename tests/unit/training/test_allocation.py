"""What is freed is not given back: measured by the page faults of taking it again, in a process of its own."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from services.trainer.training.allocation import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def use():
    blocks = [bytearray(b"x") * 4_000_000 for _ in range(10)]
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone can be told")
def test_memory_that_was_used_is_used_again():
    # 40 MB are some 10,000 pages.
    assert faults("keep") < 1000
    assert faults("give back") > 5000


def test_a_library_without_the_call_is_left_alone(monkeypatch):
    from services.trainer.training import allocation

    monkeypatch.setattr(allocation.ctypes, "CDLL", lambda _: object())
    assert allocation.keep_freed_memory() is False
