"""Speed, memory and robustness of the dataset checker: `python -m tests.bench.validator [--size-mb 1000] [--fuzz-seconds 20]`.

Speeds are CPU time of one core: of the structural checks alone, and of everything (hashing, statistics and duplicates,
too), beside what the same core does in the same run for plain decoding and for SHA-256: the ratios hold on other machines.
"""

import argparse
import gc
import hashlib
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from services.storage.checking.array_source import ArraySource
from services.storage.checking.block_reader import BlockReader
from services.storage.checking.budget import Budget
from services.storage.checking.checker import DatasetChecker
from services.storage.checking.example import Batch, Format
from services.storage.checking.line_source import LineSource
from services.storage.checking.outputs import DroppedOutput, RowsOutput
from tests.bench import rows

_SAMPLE_BYTES = 40_000_000
_CHUNK_BYTES = 2**18
_REPEATS = 3


class _Message(msgspec.Struct, gc=False):
    role: str
    content: str | list[Any] | None = None


class _Row(msgspec.Struct, gc=False):
    messages: list[_Message]


def main() -> None:
    """Prints a table of speeds, the peak memory on a big file, and what the fuzzer found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mb", type=int, default=1000)
    parser.add_argument("--fuzz-seconds", type=int, default=20)
    options = parser.parse_args()
    gc.disable()
    print("| rows | structure, MB/s, best | median | everything, best | median | of decoding | of SHA-256 |")
    print("|---|---|---|---|---|---|---|")
    for name, content in samples():
        print_speed(name, content)
    if options.size_mb:
        print_big_file(options.size_mb)
        print_big_line(options.size_mb)
    if options.fuzz_seconds:
        print_fuzz(options.fuzz_seconds)


def samples() -> Iterable[tuple[str, bytes]]:
    """Files to measure, by what is in them."""
    for size in (300, 2000):
        for words, kind in ((rows.ASCII, "ASCII"), (rows.WIDE, "70 % non-ASCII words")):
            content = b"".join(rows.lines(rows.chat_rows(size, words), _SAMPLE_BYTES))
            yield f"JSON lines of {size} bytes, {kind}", content
            if words is rows.ASCII:
                yield f"array of {size} bytes, {kind}", b"[" + content.replace(b"\n", b",\n")[:-2] + b"]"
    yield from _other_shapes()


def _other_shapes() -> Iterable[tuple[str, bytes]]:
    yield "JSON lines of 300 bytes with an id", _lines(row[:-1] + b', "id": 7}' for row in rows.chat_rows(300, rows.ASCII))
    for size in (1400, 3000):
        yield f"JSON lines of {size} bytes with tools and calls", _lines(rows.tool_rows(size, rows.ASCII))
    yield "JSON lines of 300 bytes with parts", _lines(map(rows.with_parts, rows.chat_rows(300, rows.ASCII)))
    # More digits than the fast path trusts.
    seeds = (row[:-1] + b', "seed": 0.12345678901234567890}' for row in rows.chat_rows(300, rows.ASCII))
    yield "JSON lines of 300 bytes, one by one", _lines(seeds)


def _lines(made: Iterable[bytes]) -> bytes:
    return b"".join(rows.lines(list(made), _SAMPLE_BYTES // 4))


def print_speed(name: str, content: bytes) -> None:
    """One row of the table; the best and the median of three, beside the yardsticks of the same seconds."""
    works: Sequence[Callable[[bytes], Any]] = (structure, check, decode, hashlib.sha256)
    rounds = [[speed(work, content) for work in works] for _ in range(_REPEATS)]
    structural, checked, decoded, hashed = zip(*rounds, strict=True)
    of_decoding, of_hash = (_median_ratio(checked, yardstick) for yardstick in (decoded, hashed))
    speeds = " | ".join(f"{max(found):.0f} | {statistics.median(found):.0f}" for found in (structural, checked))
    print(f"| {name} | {speeds} | {of_decoding:.2f} | {of_hash:.2f} |", flush=True)


def _median_ratio(found: Sequence[float], yardstick: Sequence[float]) -> float:
    return statistics.median(one / other for one, other in zip(found, yardstick, strict=True))


def speed(work: Callable[[bytes], Any], content: bytes) -> float:
    """MB a second of CPU time."""
    begin = time.process_time()
    work(content)
    return len(content) / 1e6 / (time.process_time() - begin)


def structure(content: bytes) -> None:
    """Only what finds bad rows: where rows begin and end, and that each is good; no statistics, repeats or hash of the file."""
    reader = BlockReader()
    source = ArraySource() if content.startswith(b"[") else LineSource()
    chunks = (content[start : start + _CHUNK_BYTES] for start in range(0, len(content), _CHUNK_BYTES))
    for block in itertools.chain(itertools.chain.from_iterable(map(source.feed, chunks)), source.finish()):
        for _, found in reader.read(block.rows, Format.CHAT, framed=block.framed):
            assert isinstance(found, Batch), found


def check(content: bytes) -> dict[str, Any]:
    """The outcome, in this process."""
    checker = DatasetChecker(RowsOutput(None), DroppedOutput(None), Budget())
    for start in range(0, len(content), _CHUNK_BYTES):
        checker.feed(content[start : start + _CHUNK_BYTES])
    outcome = checker.finish()
    assert outcome["accepted"], outcome["report"]["violations"][:1]
    return outcome


def decode(content: bytes) -> None:
    """What a decoder needs that only decodes."""
    if content.startswith(b"["):
        msgspec.json.decode(content, type=list[_Row])
        return
    decoder = msgspec.json.Decoder(_Row)
    for start in range(0, len(content), _CHUNK_BYTES):
        # Cut at line ends, as the checker does.
        begin = content.find(b"\n", start - 1) + 1 if start else 0
        end = content.find(b"\n", start + _CHUNK_BYTES - 1) + 1 or len(content)
        decoder.decode_lines(content[begin:end])


def print_big_file(size_mb: int) -> None:
    """Time and peak memory of the process on a file of about this size, rows written to another file."""
    with tempfile.TemporaryFile() as kept:
        content = rows.lines(rows.chat_rows(300, rows.ASCII), size_mb * 1_000_000)
        outcome, took, usage = run_process(content, f"--rows-fd={kept.fileno()}", pass_fds=[kept.fileno()])
    size, cpu = outcome["report"]["size_bytes"] / 1e6, usage.ru_utime + usage.ru_stime
    print(f"\nA file of {size:.0f} MB with {outcome['row_count']} rows, as a process that also writes the rows:")
    print(f"{took:.1f} s, {cpu:.1f} s of CPU ({size / cpu:.0f} MB/s), peak memory {usage.ru_maxrss / 1024:.0f} MiB", flush=True)


def print_big_line(size_mb: int) -> None:
    """The same for one line of this size between two good rows."""
    good = rows.chat_rows(300, rows.ASCII)[0] + b"\n"
    line = (b"[" * 1_000_000 for _ in range(size_mb))
    outcome, took, usage = run_process(itertools.chain([good], line, [b"\n", good]), "--max-invalid-rows=1")
    found = [(violation["line"], violation["reason"]) for violation in outcome["report"]["violations"]]
    print(f"\nOne line of {size_mb} MB of [ between two good rows: {found}, {outcome['row_count']} rows are usable,")
    print(f"{took:.1f} s, peak memory {usage.ru_maxrss / 1024:.0f} MiB", flush=True)


def run_process(content: Iterable[bytes], *options: str, **how: Any) -> tuple[dict[str, Any], float, resource.struct_rusage]:
    """Outcome, seconds and resources of the checking process on a file with this content."""
    with tempfile.NamedTemporaryFile() as file:
        file.writelines(content)
        file.flush()
        command = [sys.executable, "-m", "services.storage.checking", f"--file={file.name}", *options]
        begin = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, **how)
        assert process.stdout is not None
        outcome = json.loads(process.stdout.read())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return outcome, time.monotonic() - begin, usage


def print_fuzz(seconds: int) -> None:
    """Coverage-guided bytes for some seconds, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "tests.bench.fuzz",
        f"-max_total_time={seconds}",
        "-max_len=4096",
        "-timeout=10",
        "-rss_limit_mb=2048",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
    verdict = "nothing found" if not done.returncode else f"FAILED with exit code {done.returncode}"
    print(f"\nFuzz of {seconds} s: {verdict}. {last}")
    if done.returncode:
        sys.stderr.write(done.stderr[-5000:])
        sys.exit(1)


if __name__ == "__main__":
    main()
