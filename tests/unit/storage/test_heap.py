"""The heap keeps what uploads free; where there is no such heap, nothing happens."""

import ctypes
import subprocess
import sys

import pytest

from services.storage import heap
from services.storage.heap import keep_freed_memory

_TAKE_AND_FREE = """
import resource
from services.storage.heap import keep_freed_memory
{told}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        # As an upload does: several blocks at once, which are freed together.
        held = [bytes(2**20) for _ in range(8)]
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def faults(told: str) -> int:
    done = subprocess.run([sys.executable, "-c", _TAKE_AND_FREE.format(told=told)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library")
def test_memory_that_was_freed_is_used_again() -> None:
    assert faults("keep_freed_memory()") < 1000 < 10_000 < faults("")


def test_another_heap_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: asked.append(name) or object())
    keep_freed_memory()
    assert asked == [None]
