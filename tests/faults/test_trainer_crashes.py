"""kill -9 of the real trainer at every failpoint it has; the next one goes on, and storage gets one artifact a run."""

import asyncio
import pathlib
from collections.abc import AsyncIterator

import pytest

from services.common.failpoints import EXIT_CODE, VARIABLE
from tests.faults.fake_worker import HOLDS
from tests.faults.trainer_subjects import RealTrainer, survivors
from tests.integration.trainer.trainer_face import assert_dense, eventually
from tests.integration.trainer.trainer_storage import FakeStorage
from tunesmith.v1 import task_pb2, trainer_service_pb2

pytestmark = pytest.mark.integration
STEPS = 2


@pytest.fixture
async def trainer(tmp_path: pathlib.Path) -> AsyncIterator[RealTrainer]:
    storage = FakeStorage()
    await storage.start()
    trainer = RealTrainer(tmp_path, storage)
    yield trainer
    await trainer.clean_up()
    await storage.stop()


async def crash(trainer: RealTrainer, monkeypatch: pytest.MonkeyPatch, point: str, *, cancel: bool = False) -> str:
    """A run during which the trainer dies at `point`; its name."""
    monkeypatch.setenv(VARIABLE, f"{point}=exit")
    await trainer.start()
    assert trainer.process
    run = trainer.make(HOLDS if cancel else 0, STEPS)
    await trainer.stub.StartRun(trainer_service_pb2.StartRunRequest(run=run))
    if cancel:
        await trainer.until(run.name, "RUNNING")
        await trainer.cancel(run.name)
    await eventually(lambda: trainer.process.poll() is not None, f"{point} is never reached")
    assert trainer.process.poll() == EXIT_CODE
    monkeypatch.delenv(VARIABLE)
    await trainer.start()
    return str(run.name)


@pytest.mark.parametrize("point", ["spawn.before", "spawn.after", "upload.before", "upload.after"])
async def test_a_crash_on_the_way_to_the_artifact(trainer: RealTrainer, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    name = await crash(trainer, monkeypatch, point)
    events, end = await trainer.watch(name)
    assert end.state == task_pb2.Task.SUCCEEDED
    assert_dense(events)
    assert [event.step_metrics.step for event in events if event.HasField("step_metrics")] == [1, 2]
    assert len(trainer._storage.artifacts) == 1


@pytest.mark.parametrize("point", ["kill.before", "kill.after"])
async def test_a_crash_while_a_run_is_cancelled(trainer: RealTrainer, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    name = await crash(trainer, monkeypatch, point, cancel=True)
    events, end = await trainer.watch(name)
    assert end.state == task_pb2.Task.CANCELLED
    assert_dense(events)
    assert await asyncio.to_thread(survivors, trainer) == set()
