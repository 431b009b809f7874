"""The control group of a run, where this machine lets us make one: nothing leaves it, and nothing of it is left."""

import signal
import subprocess
import sys

import pytest
from trainer_face import Face, eventually
from trainer_scripts import RUNS_ON
from trainer_storage import FakeStorage

from services.trainer import cgroup, processes
from services.trainer.history import History
from services.trainer.journal_reader import read
from tunesmith.v1 import task_pb2

PROBE = "from services.trainer.cgroup import own_group\nwith own_group('probe', []) as group: raise SystemExit(0 if group else 1)"


def has_groups() -> bool:
    """Asked in a process of its own: this one stays where it is."""
    return subprocess.run([sys.executable, "-c", PROBE], check=False).returncode == 0


pytestmark = [pytest.mark.integration, pytest.mark.skipif(not has_groups(), reason="no control group can be made here")]


@pytest.fixture
def bare() -> list[dict]:
    """Training whose child ignores SIGTERM and has neither our session nor our environment."""
    return [{"do": "spawn", "detached": True, "bare": True}, *RUNS_ON]


async def begun(face: Face, name: str) -> tuple[int, cgroup.pathlib.Path]:
    """The process id of the child, and the group."""
    await eventually((face.directory(name) / "ready").exists, "training did not start")
    group = History().after(read(face.directory(name) / "journal.jsonl")).group
    assert group is not None
    child = int((face.directory(name) / "child.pid").read_text())
    assert child in cgroup.members(group)
    assert len(cgroup.members(group)) == 3, "supervisor, rank and its child"
    return child, group


async def test_a_child_that_hid_ends_when_the_supervisor_was_killed(face: Face, storage: FakeStorage, bare: list[dict]) -> None:
    name = await face.submit(storage.add_script(*bare))
    child, group = await begun(face, name)
    assert child not in processes.of_run(face.directory(name), None), "it is found anyway"
    face.supervisors()[0].kill()
    _, end = await face.watch(name)
    assert (end.state, end.error.reason) == (task_pb2.Task.FAILED, "RUN_LOST")
    assert processes.identify(child) is None
    assert not group.exists()


async def test_it_ends_when_the_trainer_was_killed_too(face: Face, storage: FakeStorage, bare: list[dict]) -> None:
    name = await face.submit(storage.add_script(*bare))
    child, group = await begun(face, name)
    await face.end(signal.SIGKILL)
    face.supervisors()[0].kill()
    await face.start()
    await face.watch(name)
    assert processes.identify(child) is None
    assert not group.exists()


async def test_a_cancelled_run_leaves_neither_processes_nor_its_group(face: Face, storage: FakeStorage, bare: list[dict]) -> None:
    name = await face.submit(storage.add_script(*bare))
    child, group = await begun(face, name)
    await face.cancel(name)
    assert (await face.watch(name))[1].state == task_pb2.Task.CANCELLED
    assert processes.identify(child) is None
    assert not group.exists()
