"""The worker as others start it: a process with pipes, exit codes and limits; and the client that does so."""

import asyncio
import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.json_format import Parse, ParseDict
from tiny_model import make_tiny_model

from services.common.errors import ServiceError
from services.common.rendering import Renderer, render_row
from services.storage.tokens import child as child_module
from services.storage.tokens.child import Child
from services.storage.tokens.client import TokenWorker
from tunesmith.v1 import dataset_pb2, dataset_service_pb2

ROOT = Path(__file__).parents[4]
ROWS = [
    {"messages": [{"role": "user", "content": "hi 🙂"}, {"role": "assistant", "content": "yo"}]},
    {"text": "the user"},
    {
        "input": {"messages": [{"role": "user", "content": "q"}]},
        "preferred_output": [{"role": "assistant", "content": "good"}],
        "non_preferred_output": [{"role": "assistant", "content": "bad"}],
    },
]
LINES = [json.dumps(row).encode() for row in ROWS]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


def run(*arguments, rows=b"", **options):
    command = [sys.executable, "-m", "services.storage.tokens", *map(str, arguments)]
    return subprocess.run(command, input=rows, capture_output=True, cwd=ROOT, check=False, timeout=60, **options)


async def pieces(data, size=7):
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def never():
    await asyncio.Event().wait()
    yield b""


def jsonl(*rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def replace(name, value, monkeypatch, script):
    """The client starts `script` instead of the worker."""
    monkeypatch.setattr(child_module, "_MODULE", name)
    (value / f"{name}.py").write_text(script)
    monkeypatch.setattr(child_module, "_ROOT", value)


# The process


def test_gate_answers_with_a_problem_or_none(model, tmp_path):
    assert json.loads(run("gate", "--model", model).stdout) == {"problem": ""}
    broken = make_tiny_model(tmp_path / "no_end", chat_template="{{ '' }}")
    broken_config = make_tiny_model(tmp_path / "small")
    config = json.loads((broken_config / "config.json").read_text())
    (broken_config / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] - 1}))
    assert "but config.json says vocab_size" in json.loads(run("gate", "--model", broken_config).stdout)["problem"]
    assert "without a special token" in json.loads(run("gate", "--model", broken).stdout)["problem"]


def test_preview_shows_exactly_what_is_rendered(model):
    done = run("preview", "--model", model, "--max-seq-length", 20, "--first-row", 5, rows=b"\n".join(LINES))
    assert done.returncode == 0, done.stderr
    previews = [Parse(line, dataset_service_pb2.RowPreview()) for line in done.stdout.splitlines()]
    assert [preview.row for preview in previews] == [5, 6, 7]
    assert [rendering.role for preview in previews for rendering in preview.renderings] == ["", "", "preferred", "non_preferred"]
    renderer = Renderer.from_directory(model)
    for preview, row in zip(previews, ROWS, strict=True):
        for shown, one in zip(preview.renderings, render_row(renderer, row), strict=True):
            assert shown.text == one.text
            assert [token.id for token in shown.tokens] == one.token_ids
            assert [token.trained for token in shown.tokens] == one.loss_mask
            assert [(token.start, token.end) for token in shown.tokens] == one.offsets
            assert [token.cut for token in shown.tokens] == [index >= 20 for index in range(len(one.token_ids))]
            assert shown.trainable_token_count == sum(one.loss_mask[:20])
        packed = b"".join(struct.pack("<iB", t.id, t.trained) for shown in preview.renderings for t in shown.tokens)
        assert preview.sha256 == hashlib.sha256(packed).hexdigest()


def test_preview_cuts_at_the_context_length_by_default(tmp_path):
    model = make_tiny_model(tmp_path, context_length=10)
    done = run("preview", "--model", model, rows=LINES[0])
    tokens = Parse(done.stdout, dataset_service_pb2.RowPreview()).renderings[0].tokens
    assert [token.cut for token in tokens].index(True) == 10


def test_what_is_refused_ends_with_3_and_an_error(model):
    done = run("preview", "--model", model, "--first-row", 4, rows=LINES[0] + b"\n{}\n")
    error = json.loads(done.stdout.splitlines()[-1])["error"]
    assert (done.returncode, error["reason"]) == (3, "DATASET_UNUSABLE")
    assert "row 5" in error["message"]
    assert error["hint"]


@pytest.mark.parametrize("line", [b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_a_line_that_is_no_row_is_refused_by_number(model, line):
    done = run("analyze", "--model", model, rows=LINES[0] + b"\n" + line + b"\n")
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["message"].startswith("row 2 is not ")


def test_a_broken_directory_is_refused(tmp_path):
    done = run("analyze", "--model", tmp_path)
    assert (done.returncode, json.loads(done.stdout)["error"]["reason"]) == (3, "BASE_MODEL_UNUSABLE")


def test_overlap_takes_the_other_rows_from_a_descriptor():
    reader, writer = os.pipe()
    os.write(writer, jsonl(*ROWS[:2]))
    os.close(writer)
    done = run("overlap", "--against-fd", reader, rows=b"\n".join(LINES), pass_fds=[reader])
    os.close(reader)
    found = Parse(done.stdout, dataset_service_pb2.DatasetOverlap())
    assert (found.same_input_count, found.same_row_count, list(found.rows)) == (2, 2, [1, 2])


def test_the_worker_loads_no_heavy_library(model):
    code = (
        "import sys; from services.storage.tokens.__main__ import main; "
        f"main(['gate', '--model', {str(model)!r}]); "
        "print([m for m in ('torch', 'transformers', 'grpc', 'psycopg', 'minio', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# The client


async def test_client_gates(model, tmp_path):
    assert await TokenWorker().gate(model) == ""
    assert "cannot be read" in await TokenWorker().gate(tmp_path)


async def test_client_previews(model):
    rows = await TokenWorker().preview(model, LINES, 3, 100)
    assert [ParseDict(row, dataset_service_pb2.RowPreview()).row for row in rows] == [3, 4, 5]


async def test_client_analyzes_rows_cut_anywhere(model):
    found = ParseDict(await TokenWorker().analyze(model, pieces(jsonl(*ROWS)), 20, 10_000), dataset_pb2.TokenStatistics())
    rendered = [one for row in ROWS for one in render_row(Renderer.from_directory(model), row)]
    assert found.example_count == 3
    assert found.token_count == sum(len(one.token_ids) for one in rendered)
    assert found.max_seq_length == 20
    assert sum(bucket.count for bucket in found.lengths.histogram) == 3
    assert found.base_model == ""


async def test_client_compares_more_than_a_pipe_holds():
    rows = [{"text": f"{number} {'x' * 100}"} for number in range(3000)]
    found = ParseDict(
        await TokenWorker().overlap(pieces(jsonl(*rows), 8192), pieces(jsonl(*rows[1000:]), 8192), 10_000),
        dataset_service_pb2.DatasetOverlap(),
    )
    assert (found.same_row_count, found.rows[0]) == (2000, 1001)


async def test_client_raises_what_the_worker_refuses(model):
    with pytest.raises(ServiceError, match="row 1 is of no format") as caught:
        await TokenWorker().preview(model, [b"{}"], 1, 10)
    assert caught.value.reason == "DATASET_UNUSABLE"


async def test_an_input_that_breaks_is_raised_as_it_is(model):
    async def broken():
        yield LINES[0] + b"\n"
        raise OSError("the store is away")

    with pytest.raises(OSError, match="the store is away"):
        await TokenWorker().analyze(model, broken(), 10, 0)


async def test_an_input_that_nobody_waits_for_does_not_hold_the_answer(tmp_path):
    with pytest.raises(ServiceError) as caught:
        await TokenWorker().analyze(tmp_path, never(), 10, 0)
    assert caught.value.reason == "BASE_MODEL_UNUSABLE"


async def test_an_overdue_process_is_killed(model):
    with pytest.raises(ServiceError, match=r"longer than 0\.5 seconds") as caught:
        await TokenWorker(long_seconds=0.5).analyze(model, never(), 10, 0)
    assert caught.value.reason == "TOKEN_WORKER_FAILED"


@pytest.mark.parametrize("work", ["analyze", "overlap"])
@pytest.mark.parametrize(("size", "seconds"), [(0, 3600), (180_000_000, 7200), (10**10, 203_600)])
async def test_the_bigger_the_input_the_longer_it_may_take(model, monkeypatch, work, size, seconds):
    given = []

    async def run(self, inputs, limit):
        given.append((limit, self._arguments[self._arguments.index("--cpu-seconds") + 1]))
        return child_module.Ended(0, b"{}", "")

    monkeypatch.setattr(Child, "run", run)
    if work == "analyze":
        await TokenWorker().analyze(model, never(), 10, size)
    else:
        await TokenWorker().overlap(never(), never(), size)
    assert given == [(seconds, str(seconds))]


async def test_cancelling_kills_the_process(model, monkeypatch, tmp_path):
    replace(
        "sleeper",
        tmp_path,
        monkeypatch,
        f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)",
    )
    work = asyncio.create_task(TokenWorker().gate(model))
    async with asyncio.timeout(30):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_a_crash_is_the_problem_of_what_was_tried(model, monkeypatch, tmp_path):
    replace("crasher", tmp_path, monkeypatch, "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    assert "killed by SIGSEGV" in await TokenWorker().gate(model)
    with pytest.raises(ServiceError, match="killed by SIGSEGV") as caught:
        await TokenWorker().preview(model, LINES, 1, 10)
    assert caught.value.reason == "TOKEN_WORKER_FAILED"


@pytest.mark.parametrize(
    "script", ["raise SystemExit(1)", "print('x')", "print('{}')\nraise SystemExit(3)", "import nothing_here", ""]
)
async def test_a_worker_that_does_not_work_is_the_platforms_fault(model, monkeypatch, tmp_path, script):
    replace("failing", tmp_path, monkeypatch, script)
    with pytest.raises(ServiceError) as caught:
        await TokenWorker().gate(model)
    assert caught.value.reason == "TOKEN_WORKER_FAILED"
    assert caught.value.message


async def test_a_worker_that_never_stops_writing_is_killed(model, monkeypatch, tmp_path):
    replace("writer", tmp_path, monkeypatch, "while True:\n    print('x' * 10000)")
    monkeypatch.setattr(child_module, "MAX_OUTPUT_BYTES", 100_000)
    with pytest.raises(ServiceError, match="writes more than 100,000 bytes"):
        await TokenWorker().gate(model)


async def test_no_secret_of_the_service_reaches_the_worker(model, monkeypatch, tmp_path):
    monkeypatch.setenv("TUNESMITH_S3_SECRET_KEY", "x")
    replace("teller", tmp_path, monkeypatch, "import json, os\nprint(json.dumps({'problem': ' '.join(os.environ)}))")
    names = (await TokenWorker().gate(model)).split()
    assert "PYTHONPATH" in names
    assert not [name for name in names if name.startswith("TUNESMITH")]


async def test_at_most_so_many_processes_run_at_once(model, monkeypatch):
    running, most = 0, 0
    run_one = Child.run

    async def counted(self, inputs, seconds):
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        try:
            return await run_one(self, inputs, seconds)
        finally:
            running -= 1

    monkeypatch.setattr(Child, "run", counted)
    worker = TokenWorker(processes=2)
    await asyncio.gather(*(worker.gate(model) for _ in range(5)))
    assert most == 2


def test_the_processor_time_is_limited(model, tmp_path):
    code = "from services.storage.tokens import process_limits as limits; limits.apply(1)\nwhile True: pass"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60)
    assert done.returncode in (-signal.SIGXCPU, -signal.SIGKILL)


def test_memory_is_limited():
    code = (
        "from services.storage.tokens import process_limits as limits; limits.apply(60)\n"
        "try: bytearray(limits.MEMORY_BYTES)\n"
        "except MemoryError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60, capture_output=True)
    assert done.stdout == b"refused\n"
