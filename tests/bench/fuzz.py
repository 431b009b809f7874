"""Feeds the dataset checker what a coverage-guided fuzzer makes up; run by `validator`. Needs the package atheris."""

import json
import sys

import atheris

with atheris.instrument_imports(include=["services.storage.checking"]):
    from services.storage.checking.budget import Budget
    from services.storage.checking.checker import DatasetChecker
    from services.storage.checking.outputs import DroppedOutput, RowsOutput

GOOD = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}'
STARTS = (b"", b"[", b"{", GOOD + b"\n", b"[" + GOOD + b",", b'{"text": "x"}\n')


def outcome(content: bytes, cut: int) -> dict:
    """The outcome of a file cut into pieces."""
    checker = DatasetChecker(RowsOutput(None), DroppedOutput(None), Budget(5), max_row_bytes=2**14)
    for start in range(0, len(content), cut):
        checker.feed(content[start : start + cut])
    return checker.finish()


def check(data: bytes) -> None:
    """Fails when the checker does, or when it matters where the file is cut."""
    content = STARTS[data[0] % len(STARTS)] + data[1:] if data else b""
    whole = outcome(content, max(len(content), 1))
    assert outcome(content, 17) == whole
    json.dumps(whole).encode()


if __name__ == "__main__":
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
