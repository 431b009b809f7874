"""The keeper with a supervisor that does not come up, and with trouble in between."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from trainer_face import DEADLINE_SECONDS, eventually, make_run

from services.common.bundles import Bundle
from services.common.errors import ServiceError, Unavailable
from services.trainer import conversion
from services.trainer.checkpoint_delivery import CheckpointDelivery
from services.trainer.delivery import Delivery
from services.trainer.journal import Journal
from services.trainer.keeper import Keeper, Means
from services.trainer.preparation import Preparation
from services.trainer.restoring import Restoring
from services.trainer.run import State, Wish
from services.trainer.run_directory import RunDirectory
from services.trainer.storage_client import Adapter, DatasetDigests, StoredAdapter, StoredCheckpoint
from tunesmith.v1.generation_pb2 import Generation
from tunesmith.v1.task_spec_pb2 import TaskSpec

pytestmark = pytest.mark.integration

DATASET = "datasets/7d3f0f3e-3f0e-4c6e-9f4f-0d0a8f0f1a11"


class Inputs:
    """Datasets and base models that are there, or fail with `error`."""

    def __init__(self, root: Path, error: Exception | None = None) -> None:
        self.root = root
        self.error = error

    async def fetch_dataset(self, name: str, target: Path, on_download) -> DatasetDigests:
        if self.error:
            raise self.error
        on_download()
        await asyncio.to_thread(target.write_text, "{}\n")
        return DatasetDigests("00", "11")

    async def base_model(self, name: str) -> Bundle:
        return Bundle(name, self.root, name, "r1")


class Shelf:
    """Takes adapters."""

    def __init__(self) -> None:
        self.adapters: list[Adapter] = []

    async def upload_adapter(self, adapter: Adapter) -> StoredAdapter:
        self.adapters.append(adapter)
        return StoredAdapter("artifacts/a", 3, 1e9)

    async def list_checkpoints(self, task: str) -> list[StoredCheckpoint]:
        return []


class Script:
    """Instead of a supervisor, runs Python code in the run's directory; as Launcher."""

    grace = 0.2

    def __init__(self, code: str = "", warm: str = "") -> None:
        self.code = code
        self.warm = warm
        self.launched = 0

    def launch_warm(self, run: RunDirectory) -> subprocess.Popen[bytes] | None:
        return subprocess.Popen([sys.executable, "-c", self.warm], cwd=run.path) if self.warm else None

    def launch(self, run: RunDirectory) -> subprocess.Popen[bytes]:
        self.launched += 1
        with (run.path / "supervisor.log").open("ab") as output:
            return subprocess.Popen([sys.executable, "-c", self.code], cwd=run.path, stderr=output)


FINISHES = """
import json, pathlib
from services.trainer.journal import Journal
pathlib.Path("output/adapter.safetensors").write_bytes(b"abc")
result = {"kind": "ADAPTER", "step": 1, "metrics": {}, "rendered_rows_sha256": "", "versions": {}}
pathlib.Path("result.json").write_text(json.dumps(result))
with Journal.open(pathlib.Path("journal.jsonl")) as journal:
    journal.control("started", supervisor=None)
    journal.control("exit", exit_codes={"0": 0}, cancelled=False, failed_rank=None)
"""


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    (tmp_path / "runs").mkdir()
    return RunDirectory.create(tmp_path / "runs", conversion.request_from_proto(make_run(DATASET), 1.0))


def means(inputs: Inputs, launcher: Script, shelf: Shelf | None = None) -> Means:
    clock = asyncio.get_running_loop().time
    shelf = shelf or Shelf()
    checkpoints, restoring = CheckpointDelivery(shelf), Restoring(shelf)
    return Means(Preparation(inputs, inputs, clock), Delivery(shelf, clock), launcher, checkpoints, restoring, clock)  # type: ignore[arg-type]


async def keep(keeper: Keeper) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        await keeper.keep()


async def test_a_supervisor_that_does_not_start_fails_the_run_with_its_last_words(run: RunDirectory, tmp_path: Path) -> None:
    launcher = Script("raise SystemExit('no more memory')")
    await keep(Keeper(run, means(Inputs(tmp_path), launcher), lambda: ()))
    end = run.history().end
    assert end is not None
    assert end.failure is not None
    assert (end.state, end.failure.reason) == (State.FAILED, "TRAINING_PROCESS_EXITED")
    assert "no more memory" in end.failure.message
    assert launcher.launched == 1


async def test_a_waiting_supervisor_that_dies_with_its_order_gives_way_to_a_new_one(run: RunDirectory, tmp_path: Path) -> None:
    launcher = Script(FINISHES, warm="raise SystemExit(1)")
    await keep(Keeper(run, means(Inputs(tmp_path), launcher), lambda: ()))
    end = run.history().end
    assert end is not None
    assert (end.state, launcher.launched) == (State.SUCCEEDED, 1)


async def test_a_run_whose_processes_end_at_once_is_delivered(run: RunDirectory, tmp_path: Path) -> None:
    shelf = Shelf()
    await keep(Keeper(run, means(Inputs(tmp_path), Script(FINISHES), shelf), lambda: ()))
    end = run.history().end
    assert end is not None
    assert (end.state, end.artifact) == (State.SUCCEEDED, "artifacts/a")
    [adapter] = shelf.adapters
    assert [(file.path, file.size_bytes) for file in adapter.files] == [("adapter.safetensors", 3)]
    assert adapter.request_id == str(run.request.name)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "Permission denied"), "RUN_PREPARATION_FAILED"),
        (OSError(28, "No space left on device"), "DISK_FULL"),
        (ServiceError("INTERNAL", "a defect"), "RUN_PREPARATION_FAILED"),
    ],
)
async def test_trouble_in_preparation_ends_the_run_with_a_reason(
    run: RunDirectory, tmp_path: Path, error: Exception, reason: str
) -> None:
    await keep(Keeper(run, means(Inputs(tmp_path, error), Script()), lambda: ()))
    end = run.history().end
    assert end is not None
    assert end.failure is not None
    assert (end.state, end.failure.reason) == (State.FAILED, reason)


async def test_a_run_waits_for_its_predecessor(run: RunDirectory, tmp_path: Path) -> None:
    older = RunDirectory.create(tmp_path, conversion.request_from_proto(make_run(DATASET), 0.0))
    launcher = Script(FINISHES)
    keeping = asyncio.create_task(keep(Keeper(run, means(Inputs(tmp_path), launcher), lambda: [older])))
    done, _ = await asyncio.wait({keeping}, timeout=0.3)
    assert not done
    assert launcher.launched == 0
    with Journal.open(older.journal) as journal:
        journal.control("end", state="CANCELLED")
    await keeping
    assert run.state() is State.SUCCEEDED


async def test_a_run_starts_with_the_checkpoints_of_its_predecessors(run: RunDirectory, tmp_path: Path) -> None:
    older = RunDirectory.create(tmp_path, conversion.request_from_proto(make_run(DATASET), 0.0))
    with Journal.open(older.journal) as journal:
        journal.control("end", state="CANCELLED")
    await asyncio.to_thread((older.checkpoints / "step-7").mkdir, parents=True)
    await asyncio.to_thread((older.checkpoints / "step-7/manifest.json").write_text, "{}")
    await keep(Keeper(run, means(Inputs(tmp_path), Script(FINISHES)), lambda: [older]))
    assert (run.checkpoints / "step-7/manifest.json").read_text() == "{}"
    assert "an earlier attempt left a checkpoint of step 7" in run.log_tail()


async def test_a_wish_ends_waiting_for_storage(run: RunDirectory, tmp_path: Path) -> None:
    away = Unavailable("STORAGE_UNAVAILABLE", "storage did not answer")
    keeper = Keeper(run, means(Inputs(tmp_path, away), Script()), lambda: ())
    keeping = asyncio.create_task(keep(keeper))
    await eventually(lambda: run.history().head, "nobody said that storage is away")
    keeper.wish(Wish())
    await keeping
    assert run.state() is State.CANCELLED
    assert any("trying again" in line for line in run.log_tail())


LEAVES = """
import json, pathlib, time
from services.trainer.journal import Journal
with Journal.open(pathlib.Path("journal.jsonl")) as journal:
    journal.control("started", supervisor=None)
    while not pathlib.Path("cancel").exists():
        time.sleep(0.01)
    pathlib.Path("output/answers.jsonl").write_bytes(b"{}")
    result = {"kind": "GENERATION", "step": 1, "metrics": {}, "rendered_rows_sha256": "", "versions": {}}
    pathlib.Path("result.json").write_text(json.dumps(result | {"generation": {"row_count": 2, "answered_count": 1}}))
    journal.control("exit", exit_codes={"0": 143}, cancelled=True, failed_rank=None)
"""


class Full(Shelf):
    """Takes nothing."""

    async def upload_adapter(self, adapter: Adapter) -> StoredAdapter:
        raise ServiceError("STALE_EPOCH", "another attempt is newer")


@pytest.mark.parametrize(("shelf", "artifact"), [(Shelf(), "artifacts/a"), (Full(), "")], ids=["stored", "refused"])
async def test_a_cancelled_generation_tells_what_it_has_left(tmp_path: Path, shelf: Shelf, artifact: str) -> None:
    ask = make_run(DATASET)
    ask.ClearField("hyperparameters")
    ask.spec.CopyFrom(TaskSpec(generation=Generation(model="baseModels/tiny", dataset=DATASET)))
    (tmp_path / "runs").mkdir()
    run = RunDirectory.create(tmp_path / "runs", conversion.request_from_proto(ask, 1.0))
    keeper = Keeper(run, means(Inputs(tmp_path), Script(LEAVES), shelf), lambda: ())
    keeping = asyncio.create_task(keep(keeper))
    await eventually(lambda: run.history().started, "the run did not start")
    keeper.wish(Wish())
    await keeping
    end = run.history().end
    assert end is not None
    assert (end.state, end.artifact) == (State.CANCELLED, "")
    records = [json.loads(line) for line in run.journal.read_text().splitlines()]
    told = [record["result"] for record in records if record.get("kind") == "generation_finished"]
    assert told == ([{"row_count": 2, "answered_count": 1, "partial_artifact": artifact}] if artifact else [])
    assert any("could not be stored" in line for line in run.log_tail()) is not bool(artifact)


async def test_a_defect_in_a_turn_does_not_end_the_keeper(run: RunDirectory, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("services.trainer.keeper._ERROR_PAUSE_SECONDS", 0.01)
    inputs = Inputs(tmp_path, KeyError("a defect"))
    keeping = asyncio.create_task(keep(Keeper(run, means(inputs, Script(FINISHES)), lambda: ())))
    done, _ = await asyncio.wait({keeping}, timeout=0.2)
    assert not done
    inputs.error = None
    await keeping
    assert run.state() is State.SUCCEEDED
