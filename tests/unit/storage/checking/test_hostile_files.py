"""Hostile files of real size through the real process: a clear answer, and memory that stays bounded."""

import json
import pathlib
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import pytest
from unit.storage.checking.checks import ANSWER, GOOD, USER, of

MIB = 2**20
# A process counts the memory of the one it was forked from as its own, so a small one stands between it and the tests.
MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
sys.stderr.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
"""
ROW = GOOD.encode() + b"\n"
KEYS = "{" + ",".join(f'"{n}":{n}' for n in range(400_000)) + "}"


def checked(tmp_path: pathlib.Path, chunks: Iterable[bytes]) -> tuple[dict[str, Any], float]:
    """The outcome, and the peak memory of the process in MiB."""
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as file:
        file.writelines(chunks)
    command = [sys.executable, "-m", "services.storage.checking", f"--file={path}", "--max-invalid-rows=9"]
    done = subprocess.run([sys.executable, "-c", MEASURED, *command], capture_output=True, check=True)
    return json.loads(done.stdout), int(done.stderr) / 1024


@pytest.mark.parametrize(
    ("start", "filling"),
    [
        (b"", b"x"),
        (b'{"text": "', b"x"),
        (b'{"a": ', b"["),
        (b'{"a": ', b'{"a": '),
        (b"{", b'"a": 1, '),
        (b"", b"\0"),
        (b"", b"9"),
    ],
    ids=["words", "a text", "lists", "objects", "equal keys", "NUL", "digits"],
)
def test_a_line_of_64_mb_is_one_bad_row(tmp_path: pathlib.Path, start: bytes, filling: bytes) -> None:
    block = filling * (MIB // len(filling))
    outcome, memory = checked(tmp_path, [ROW * 3, start, *[block] * 64, b"\n", ROW])
    assert [(found["line"], found["reason"]) for found in outcome["report"]["violations"]] == [(4, "DATASET_LINE_TOO_LONG")]
    assert (outcome["row_count"], outcome["accepted"]) == (4, True)
    assert memory < 200


@pytest.mark.parametrize(
    ("filling", "reason"),
    [(b"[", "DATASET_TOO_DEEP"), (b"x", "DATASET_NOT_JSON"), (b'"', "DATASET_ARRAY_BROKEN"), (b"\xff", "DATASET_NOT_UTF8")],
)
def test_an_array_whose_element_never_ends_is_refused(tmp_path: pathlib.Path, filling: bytes, reason: str) -> None:
    outcome, memory = checked(tmp_path, [b"[", *[filling * MIB] * 12])
    assert [found["reason"] for found in outcome["report"]["violations"]] == [reason]
    assert not outcome["accepted"]
    assert memory < 400


@pytest.mark.parametrize(
    "extra",
    [
        "[" + "[]," * MIB + "[]]",
        "[" + "{}," * MIB + "{}]",
        "{" + ",".join(f'"{n}":{n}' for n in range(400_000)) + "}",
        '"' + "é" * 3 * MIB + '"',
    ],
    ids=["lists", "objects", "keys", "text"],
)
def test_a_row_just_below_the_limit_is_taken(tmp_path: pathlib.Path, extra: str) -> None:
    row = of(USER, ANSWER, more=f', "extra": {extra}').encode() + b"\n"
    outcome, memory = checked(tmp_path, [ROW, row, row, ROW])
    assert outcome["report"]["violations"] == []
    assert (outcome["row_count"], outcome["report"]["statistics"]["duplicate_count"]) == (4, 3)
    assert memory < 1000


def test_a_key_given_twice_at_the_end_of_a_long_row_is_found(tmp_path: pathlib.Path) -> None:
    row = of(USER, ANSWER, more=', "a": [' + '{"b": "c"},' * 50_000 + '{"b": 1, "b": 1}]').encode() + b"\n"
    outcome, _ = checked(tmp_path, [ROW, row, ROW])
    assert [(found["line"], found["reason"]) for found in outcome["report"]["violations"]] == [(2, "DATASET_DUPLICATE_KEY")]
