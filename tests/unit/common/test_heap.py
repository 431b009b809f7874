"""What is freed is not given back: measured by the page faults of taking it again, in processes of their own."""

import ctypes
import subprocess
import sys

import pytest

from services.common import heap

TOLD = {
    "one pool": "heap.keep_freed_memory(kept_bytes=heap.EVERYTHING, block_bytes=heap.LARGEST_BLOCK, arenas=1)",
    "two pools": "heap.keep_freed_memory(kept_bytes=32 * 2**20, block_bytes=8 * 2**20, arenas=2)",
    "nothing": "True",
}
PROGRAM = """
import resource
from services.common import heap
assert {told}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        held = [bytearray(b"x") * size for _ in range(count)]
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
rounds, count, size = {use}
faults()
print(faults())
"""
STEP, UPLOAD = (1, 10, 4_000_000), (100, 8, 2**20)
"""(times, blocks at once, bytes): some 10,000 pages of a training step, 200,000 of a hundred messages."""


def faults(told: str, use: tuple[int, int, int]) -> int:
    program = PROGRAM.format(told=TOLD[told], use=use)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library")
@pytest.mark.parametrize(
    ("told", "use", "otherwise"), [("one pool", STEP, 5_000), ("two pools", UPLOAD, 10_000)], ids=["training", "storage"]
)
def test_memory_that_was_used_is_used_again(told: str, use: tuple[int, int, int], otherwise: int) -> None:
    assert faults(told, use) < 1000
    assert faults("nothing", use) > otherwise


def test_a_library_without_the_call_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda _: object())
    assert heap.keep_freed_memory(kept_bytes=1, block_bytes=1, arenas=1) is False
