"""The process: the same answers as in-process, and its death is an error, never a hang."""

import asyncio
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

import pytest
from unit.storage.checking.checks import GOOD, Checked

from services.common.errors import ServiceError
from services.storage.checking import client
from services.storage.checking.budget import Budget
from services.storage.checking.client import CheckerProcess
from services.storage.checking.refusal import refusal

ROW = GOOD.encode() + b"\n"
MIXED = ROW * 3 + b'{"messages": []}\n' + ROW + b"\xff\n"


async def test_the_process_says_what_the_checker_says() -> None:
    expected = Checked(MIXED, budget=Budget(2))
    with tempfile.TemporaryFile() as rows, tempfile.TemporaryFile() as dropped:
        async with CheckerProcess.start(rows, dropped, Budget(2, 0.5)) as checker:
            for start in range(0, len(MIXED), 50):
                await checker.feed(MIXED[start : start + 50])
            outcome = await checker.finish()
        rows.seek(0)
        dropped.seek(0)
        assert rows.read() == expected.rows == ROW * 4
        assert [json.loads(line) for line in dropped] == expected.dropped
    assert outcome.accepted
    assert (outcome.row_count, outcome.dropped_row_count) == (4, 2)
    assert outcome.dropped_rows_by_reason == {"DATASET_MESSAGES_MISSING": 1, "DATASET_NOT_UTF8": 1}
    assert outcome.rows_sha256 == expected.outcome["rows_sha256"]
    assert (outcome.index_every, outcome.index_offsets) == (1, [0, len(ROW), 2 * len(ROW), 3 * len(ROW)])
    assert [violation.line for violation in outcome.report.violations] == [4, 6]
    assert outcome.report.format == 1
    assert outcome.report.statistics.examples_by_turns == {1: 4}
    assert outcome.report.warnings[0].reason == "DATASET_FEW_EXAMPLES"


async def test_an_empty_file_has_an_outcome() -> None:
    async with CheckerProcess.start() as checker:
        outcome = await checker.finish()
    assert [violation.reason for violation in outcome.report.violations] == ["DATASET_EMPTY"]
    assert not outcome.accepted


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_a_process_that_dies_is_an_error_with_its_cause(number: signal.Signals) -> None:
    async with CheckerProcess.start() as checker:
        await checker.feed(ROW)
        os.kill(checker._process.pid, number)
        with pytest.raises(ServiceError, match=number.name) as caught:
            for _ in range(10_000):
                await checker.feed(ROW * 1000)
    assert (caught.value.reason, caught.value.status) == ("CHECKER_FAILED", "INTERNAL")


async def test_a_process_that_dies_before_its_answer_is_an_error() -> None:
    async with CheckerProcess.start() as checker:
        os.kill(checker._process.pid, signal.SIGKILL)
        with pytest.raises(ServiceError, match="SIGKILL"):
            await checker.finish()


@pytest.fixture
def full_disk() -> Iterator[BinaryIO]:
    with open("/dev/full", "wb") as file:
        yield file


async def test_a_full_disk_is_told_as_such(full_disk: BinaryIO) -> None:
    with pytest.raises(ServiceError) as caught:
        async with CheckerProcess.start(full_disk) as checker:
            await checker.feed(ROW)
            await checker.finish()
    assert caught.value.reason == "DISK_FULL"


async def test_leaving_the_block_ends_the_process() -> None:
    with pytest.raises(RuntimeError):
        async with CheckerProcess.start() as checker:
            await checker.feed(ROW)
            raise RuntimeError
    assert checker._process.returncode == -signal.SIGKILL


async def test_cancelling_ends_the_process() -> None:
    started: asyncio.Future[CheckerProcess] = asyncio.get_running_loop().create_future()

    async def check() -> None:
        async with CheckerProcess.start() as checker:
            started.set_result(checker)
            await asyncio.Event().wait()

    task = asyncio.create_task(check())
    checker = await started
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert checker._process.returncode is not None


@pytest.mark.parametrize(
    "content", [ROW * 5000, b"[" + b",\n".join([GOOD.encode()] * 5000) + b"]", MIXED], ids=["lines", "array", "mixed"]
)
@pytest.mark.parametrize("cut", [1000, 2**18])
async def test_chunks_of_any_size_give_the_same_outcome(content: bytes, cut: int) -> None:
    expected = Checked(content)
    async with CheckerProcess.start() as checker:
        for start in range(0, len(content), cut):
            await checker.feed(content[start : start + cut])
        outcome = await checker.finish()
    assert outcome.report == client.json_format.ParseDict(expected.report, client.dataset_pb2.DatasetReport())
    assert outcome.rows_sha256 == expected.outcome["rows_sha256"]
    assert outcome.rows_equal_file == expected.outcome["rows_equal_file"]


async def test_two_checks_at_once_do_not_meet() -> None:
    async with CheckerProcess.start() as first, CheckerProcess.start(budget=Budget(5)) as second:
        await first.feed(ROW * 2)
        await second.feed(MIXED)
        outcomes = await asyncio.gather(first.finish(), second.finish())
    assert [(outcome.row_count, outcome.accepted) for outcome in outcomes] == [(2, True), (4, True)]


async def test_an_answer_that_cannot_be_read_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.sys, "executable", "/bin/true")
    async with CheckerProcess.start() as checker:
        with pytest.raises(ServiceError, match="what cannot be read") as caught:
            await checker.finish()
    assert (caught.value.reason, caught.value.status) == ("CHECKER_FAILED", "INTERNAL")


async def test_a_failing_process_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    program = tmp_path / "checker"
    program.write_text("#!/bin/sh\necho out of order >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(client.sys, "executable", str(program))
    async with CheckerProcess.start() as checker:
        with pytest.raises(ServiceError, match="exit code 3: out of order"):
            await checker.finish()


def run(*options: str, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "services.storage.checking", *options]
    return subprocess.run(command, input=content, capture_output=True, check=False)


def test_a_file_is_read_by_name(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(MIXED)
    done = run("--file", str(path), "--max-invalid-rows", "2")
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["accepted"]
    assert done.stdout.count(b"\n") == 1


def test_a_file_that_is_not_there_is_an_error() -> None:
    done = run("--file", "/nowhere")
    assert done.returncode == 1
    assert b"/nowhere" in done.stderr


def test_a_bad_file_is_an_answer_and_no_error() -> None:
    done = run(content=b"nonsense")
    assert done.returncode == 0
    assert json.loads(done.stdout)["report"]["violations"][0]["reason"] == "DATASET_NOT_JSON"


def test_the_process_loads_light_things_only() -> None:
    code = "import services.storage.checking.__main__, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"grpc", "google", "psycopg", "minio", "structlog", "torch", "tunesmith", "asyncio"}


def test_the_refusal_sums_up_and_names_the_first() -> None:
    error = refusal(report_of(MIXED), Budget())
    assert error.reason == "DATASET_INVALID"
    assert error.message == "2 of 6 rows are bad; first: line 4: messages: the list is empty"
    assert [violation.field for violation in error.violations] == ["line 4: messages", "line 6, column 1"]
    assert error.metadata == {"row_count": "6", "violation_count": "2"}


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(max_rows=1), "max_invalid_rows 1"),
        (Budget(max_ratio=0.1), "max_invalid_ratio 0.1"),
        (Budget(1, 0.1), "max_invalid_rows 1 and max_invalid_ratio 0.1"),
    ],
)
def test_the_refusal_says_the_budget_that_did_not_cover_it(budget: Budget, said: str) -> None:
    assert refusal(report_of(MIXED), budget).message.startswith(f"2 of 6 rows are bad, more than {said} allows; first: line 4")


def test_one_bad_row_is_told_in_the_singular_with_its_own_hint() -> None:
    error = refusal(report_of(ROW + b'{"messages": [{"role": "user", "content": "x"}]}\n'), Budget())
    assert error.message.startswith("1 of 2 rows is bad; first: line 2: messages: no message is of the assistant")
    assert error.hint == "Add what the assistant should say."


@pytest.mark.parametrize(
    ("content", "reason", "place"),
    [
        (b"", "DATASET_EMPTY", "file"),
        (b"\xff\xfe{\0", "DATASET_ENCODING", "file"),
        (b"[" + ROW, "DATASET_ARRAY_TRUNCATED", "line 1, column 91"),
        (b"a,b\n", "DATASET_FILE_OTHER", "line 1"),
    ],
)
def test_a_file_wrong_as_a_whole_is_refused_for_that(content: bytes, reason: str, place: str) -> None:
    error = refusal(report_of(content), Budget())
    assert (error.reason, [violation.field for violation in error.violations]) == (reason, [place])


def report_of(content: bytes) -> client.dataset_pb2.DatasetReport:
    return client.json_format.ParseDict(Checked(content).report, client.dataset_pb2.DatasetReport())
