"""A trainer that no task manager asks for anything: strict, it ends its runs, with or without its face; relaxed, they go on."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import pytest
from trainer_face import Face, eventually, eventually_async
from trainer_scripts import GOOD, RUNS_ON
from trainer_storage import FakeStorage

from tunesmith.v1 import task_pb2, trainer_service_pb2

pytestmark = pytest.mark.integration

Make = Callable[..., Awaitable[Face]]
STRICT = {"FENCING": "strict", "FENCING_AFTER": "2s"}
STUBBORN = ({"do": "spawn", "detached": True}, *RUNS_ON)
"""With a child in a session of its own that ignores SIGTERM."""


async def ready(face: Face, storage: FakeStorage, *script: dict, **more: object) -> str:
    """The name of a run that computes; until then it is asked for, and then nobody asks for anything."""
    name = await face.submit(storage.add_script(*script), **more)

    async def is_ready() -> bool:
        await face.get(name)
        return (face.directory(name) / "ready").exists()

    await eventually_async(is_ready, "training did not start")
    return name


async def test_a_strict_trainer_that_nobody_asks_ends_its_runs_and_says_why(make_face: Make, storage: FakeStorage) -> None:
    face = await make_face(**STRICT)
    told = await face.stub.GetCapacity(trainer_service_pb2.GetCapacityRequest())
    assert told.fenced_after_seconds == 2 + 0.5 + 10, "the limit, the grace, and the time it takes to kill"
    name = await ready(face, storage, *STUBBORN)

    await eventually(lambda: '"control":"end"' in face.journal(name).replace(" ", ""), "nothing ended it")

    assert face.remains() == [], "the whole tree is gone, what ignores SIGTERM included"
    run = await face.get(name)
    assert (run.state, run.error.reason) == (task_pb2.Task.FAILED, "RUN_FENCED")
    assert "no task manager has asked this trainer for anything for" in run.error.message
    assert run.error.step == 2

    again = await face.submit(storage.add_script(*GOOD), attempt=2, epoch=2, task=run.task.removeprefix("tasks/"))
    _, end = await face.watch(again)
    assert end.state == task_pb2.Task.SUCCEEDED, "whoever asks again gets the next attempt"


async def test_runs_end_though_their_face_is_dead(make_face: Make, storage: FakeStorage) -> None:
    face = await make_face(**STRICT)
    name = await ready(face, storage, *RUNS_ON)
    await face.end(signal.SIGKILL)

    await eventually(lambda: not face.survivors(), "the supervisor waits for its face")

    await face.start()
    _, end = await face.watch(name)
    assert (end.state, end.error.reason) == (task_pb2.Task.FAILED, "RUN_FENCED")


async def test_a_run_goes_on_for_as_long_as_somebody_asks_what_there_is(make_face: Make, storage: FakeStorage) -> None:
    face = await make_face(FENCING="strict", FENCING_AFTER="4s")
    script = ({"do": "steps", "first": 1, "last": 60, "pause": 0.1}, {"do": "result", "step": 60})
    name = await face.submit(storage.add_script(*script))

    async def asked() -> bool:
        await asyncio.sleep(0.2)
        answer = await face.stub.ListRuns(trainer_service_pb2.ListRunsRequest())
        return answer.runs[0].state == task_pb2.Task.SUCCEEDED

    async with asyncio.timeout(60):
        while not await asked():
            assert "RUN_FENCED" not in face.journal(name)


async def test_a_relaxed_trainer_computes_on_and_writes_no_contact(make_face: Make, storage: FakeStorage) -> None:
    face = await make_face(FENCING_AFTER="1s")
    name = await ready(face, storage, {"do": "steps", "first": 1, "last": 40, "pause": 0.1}, *RUNS_ON[1:])

    assert face.ranks(), "40 steps took four times as long as the limit"
    assert "RUN_FENCED" not in face.journal(name)
    assert not (face.root / "data" / "contact").exists()


async def test_a_supervisor_that_was_kept_ready_is_fenced_too(make_face: Make, storage: FakeStorage) -> None:
    face = await make_face(**STRICT, WARM_PROCESSES="1")
    name = await ready(face, storage, *RUNS_ON)
    await eventually(lambda: "RUN_FENCED" in face.journal(name), "nothing ended it")
    await eventually(lambda: not face.ranks(), "the rank lives on")
