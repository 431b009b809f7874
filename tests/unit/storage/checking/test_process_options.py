"""The checking process by its command line: what it reads, where it writes, its limits and exit codes."""

import json
import os
import pathlib
import resource
import subprocess
import sys
from typing import Any

import pytest
from unit.storage.checking.checks import GOOD

MODULE = [sys.executable, "-m", "services.storage.checking"]
ROWS = f"{GOOD}\nbad\n{GOOD}\n".encode()


def run(*options: str, content: bytes = ROWS, **how: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*MODULE, *options], input=content, capture_output=True, check=False, timeout=60, **how)


@pytest.mark.parametrize(
    ("options", "accepted"),
    [
        ([], False),
        (["--max-invalid-rows=1"], True),
        (["--max-invalid-rows=0"], False),
        (["--max-invalid-ratio=0.5"], True),
        (["--max-invalid-ratio=0.1"], False),
        (["--max-invalid-rows=1", "--max-invalid-ratio=0.1"], False),
    ],
)
def test_the_budget_is_said_by_options(options: list[str], accepted: bool) -> None:
    done = run(*options)
    assert done.returncode == 0
    assert json.loads(done.stdout)["accepted"] is accepted


def test_rows_and_left_out_rows_go_where_they_should(tmp_path: pathlib.Path) -> None:
    with (tmp_path / "rows").open("wb") as rows, (tmp_path / "dropped").open("wb") as dropped:
        descriptors = (rows.fileno(), dropped.fileno())
        options = [f"--rows-fd={descriptors[0]}", f"--dropped-fd={descriptors[1]}", "--max-invalid-rows=1"]
        assert run(*options, pass_fds=descriptors).returncode == 0
    assert (tmp_path / "rows").read_text() == f"{GOOD}\n{GOOD}\n"
    assert json.loads((tmp_path / "dropped").read_text())["row"] == "bad"


@pytest.mark.parametrize("options", [["--max-invalid-rows=x"], ["--unknown"], ["--rows-fd=one"]])
def test_options_nobody_knows_are_refused(options: list[str]) -> None:
    done = run(*options)
    assert done.returncode == 2
    assert b"usage:" in done.stderr


def test_a_disk_that_is_full_has_its_own_exit_code() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = run(f"--rows-fd={full}", content=f"{GOOD}\n".encode(), pass_fds=(full,))
    finally:
        os.close(full)
    assert done.returncode == 28
    assert b"No space left" in done.stderr


def test_its_memory_is_limited_and_a_lower_limit_is_kept() -> None:
    code = (
        "import resource\n"
        "from services.storage.checking import __main__ as main\n"
        "main._set_limits()\n"
        "print(*resource.getrlimit(resource.RLIMIT_AS), *resource.getrlimit(resource.RLIMIT_CORE))"
    )

    def limits(hard: int) -> list[int]:
        # Not between fork and exec: there, the memory of this process would be what is limited.
        lower = f"import resource\nresource.setrlimit(resource.RLIMIT_AS, ({hard}, {hard}))\n"
        done = subprocess.run([sys.executable, "-c", lower + code], capture_output=True, check=True)
        return [int(word) for word in done.stdout.split()]

    assert limits(resource.RLIM_INFINITY)[:3:2] == [2 * 2**30, 0]
    assert limits(2**30)[:3:2] == [2**30, 0]


def test_every_answer_is_one_line_of_json() -> None:
    for content in (b"", b"\xff", b"[", GOOD.encode(), b"\n" * 9, ROWS * 200):
        done = run(content=content)
        (line,) = done.stdout.splitlines()
        assert json.loads(line).keys() >= {"report", "accepted", "row_count", "rows_sha256", "index"}
