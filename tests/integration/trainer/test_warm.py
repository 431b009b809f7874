"""Runs that begin in a process that was ready: everything is as with a cold start, and losing that process costs nothing."""

import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import psutil
import pytest
from trainer_face import Face, assert_dense, eventually, eventually_async, texts
from trainer_scripts import GOOD, RUNS_ON
from trainer_storage import FakeStorage

from tunesmith.v1 import task_pb2, trainer_service_pb2

pytestmark = pytest.mark.integration

NAMES = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "OMP_NUM_THREADS", "MASTER_ADDR", "TUNESMITH_RUN_DIRECTORY"]
NAMES += ["TUNESMITH_TRAINER_DATA_DIR"]


@pytest.fixture
async def warm(make_face: Callable[..., Awaitable[Face]]) -> AsyncIterator[Face]:
    face = await make_face(WARM_PROCESSES="1", THREADS="3")
    await ready(face)
    yield face
    assert face.process
    if face.process.poll() is None:
        await face.end(signal.SIGTERM)


async def ready(face: Face) -> None:
    async def is_ready() -> bool:
        capacity = await face.stub.GetCapacity(trainer_service_pb2.GetCapacityRequest())
        return capacity.warm_processes == 1 and capacity.warm_memory_bytes > 0

    await eventually_async(is_ready, "nothing is kept ready")


def gone(*processes: psutil.Process) -> bool:
    """Whether they have ended; that nobody has read their exit codes does not count."""
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def waiting(face: Face) -> tuple[psutil.Process, psutil.Process]:
    """(supervisor, rank)."""
    assert face.process
    [supervisor] = psutil.Process(face.process.pid).children()
    [rank] = supervisor.children()
    return supervisor, rank


async def test_a_run_takes_the_process_that_is_ready_and_another_takes_its_place(warm: Face, storage: FakeStorage) -> None:
    _, rank = waiting(warm)
    dataset = storage.add_script({"do": "environment", "names": [*NAMES, "MASTER_PORT"]}, {"do": "process"}, *GOOD)
    name = await warm.submit(dataset)
    events, end = await warm.watch(name)

    assert end.state == task_pb2.Task.SUCCEEDED, (end, texts(events))
    assert_dense(events)
    environment, process, *_ = (json.loads(text) for text in texts(events, rank=0)[:2])
    assert int(environment.pop("MASTER_PORT")) > 0
    directory = str(warm.directory(name))
    assert environment == dict(zip(NAMES, ["0", "0", "1", "3", "127.0.0.1", directory, None], strict=True))
    assert process == {"pid": rank.pid, "arguments": [f"{directory}/config.json"], "stdin": ""}
    await ready(warm)
    assert waiting(warm)[1].pid != rank.pid
    assert (warm.directory(name) / "supervisor.log").read_text() == ""


async def test_cancelling_ends_the_whole_tree_and_its_exit_is_in_the_journal(warm: Face, storage: FakeStorage) -> None:
    supervisor, rank = waiting(warm)
    name = await warm.submit(storage.add_script({"do": "spawn", "detached": True}, {"do": "ignore_sigterm"}, *RUNS_ON))
    await eventually((warm.directory(name) / "ready").exists, "the run does not begin")
    child = psutil.Process(int((warm.directory(name) / "child.pid").read_text()))
    await warm.cancel(name)
    await warm.until(name, "CANCELLED")
    assert gone(rank, child)
    assert '"exit_codes":{"0":-9}' in warm.journal(name).replace(" ", "")
    await eventually(lambda: gone(supervisor), "the supervisor is left")


async def test_a_trainer_that_is_killed_takes_what_waits_with_it_and_leaves_what_runs(warm: Face, storage: FakeStorage) -> None:
    _, running = waiting(warm)
    name = await warm.submit(storage.add_script(*RUNS_ON))
    await eventually((warm.directory(name) / "ready").exists, "the run does not begin")
    await warm.end(signal.SIGKILL)
    assert running.is_running()
    await warm.start()
    await warm.until(name, "RUNNING")
    await warm.cancel(name)
    await warm.until(name, "CANCELLED")
    await ready(warm)
    supervisor, rank = waiting(warm)
    await warm.end(signal.SIGKILL)
    await eventually(lambda: gone(supervisor, rank), "something still waits")


@pytest.mark.parametrize("who", ["supervisor", "rank", "both are held"])
async def test_losing_it_is_no_failure(warm: Face, storage: FakeStorage, who: str) -> None:
    supervisor, rank = waiting(warm)
    match who:
        case "supervisor":
            supervisor.kill()
        case "rank":
            rank.kill()
        case _:
            # It dies when it has its orders but has not begun.
            rank.suspend()
    name = await warm.submit(storage.add_script(*GOOD))
    if who == "both are held":
        await eventually(lambda: "started" in warm.journal(name), "the supervisor does not begin")
        os.kill(rank.pid, signal.SIGKILL)
    events, end = await warm.watch(name)
    assert end.state == task_pb2.Task.SUCCEEDED, (end, texts(events))
    gone = [text for text in texts(events, rank=-1) if text.startswith("the process that was kept ready is gone")]
    assert len(gone) == (who == "both are held")


async def test_runs_of_several_processes_start_cold_and_have_the_memory_of_what_waited(warm: Face, storage: FakeStorage) -> None:
    supervisor, rank = waiting(warm)
    name = await warm.submit(storage.add_script({"do": "process"}, *GOOD), processes=2)
    events, end = await warm.watch(name)
    assert end.state == task_pb2.Task.SUCCEEDED
    assert rank.pid not in [json.loads(texts(events, rank=number)[0])["pid"] for number in (0, 1)]
    assert gone(supervisor, rank)
    await ready(warm)


async def test_what_waits_reads_the_base_model_of_the_run_before(warm: Face, storage: FakeStorage) -> None:
    def base() -> str:
        return waiting(warm)[1].environ()["TUNESMITH_WARM_BASE"]

    assert base() == ""
    name = await warm.submit(storage.add_script(*GOOD))
    await warm.watch(name)
    await ready(warm)
    assert base() == json.loads((warm.directory(name) / "config.json").read_text())["base_model_dir"]


async def test_what_cannot_be_imported_is_told_and_runs_start_cold(
    make_face: Callable[..., Awaitable[Face]], storage: FakeStorage
) -> None:
    face = await make_face(WARM_PROCESSES="1", WARM_MODULE="no_such_module")
    await eventually(lambda: "warm.not_ready" in (face.root / "face.log").read_text(), "it is not told")
    _, end = await face.watch(await face.submit(storage.add_script(*GOOD)))
    assert end.state == task_pb2.Task.SUCCEEDED
