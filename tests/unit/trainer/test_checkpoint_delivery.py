"""What the training process has saved comes to storage, is told once, and nothing that goes wrong with it ends the run."""

import asyncio
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoint_values import make_checkpoint

from services.common.errors import ServiceError, Unavailable
from services.trainer import checkpoint_delivery
from services.trainer.checkpoint_delivery import CheckpointDelivery, leave
from services.trainer.journal import Journal
from services.trainer.journal_reader import read
from services.trainer.run_directory import Provenance, RunDirectory
from services.trainer.storage_client import Adapter, StoredAdapter


class Shelf:
    """Reads every byte, as storage does."""

    def __init__(self) -> None:
        self.adapters: list[Adapter] = []
        self.error: ServiceError | None = None
        self.before: Callable[[], object] = lambda: None

    async def upload_adapter(self, adapter: Adapter) -> StoredAdapter:
        self.before()
        for file in adapter.files:
            assert len((adapter.directory / file.path).read_bytes()) == file.size_bytes
        if self.error is not None:
            raise self.error
        self.adapters.append(adapter)
        return StoredAdapter(f"artifacts/{adapter.result.step}", 9, 1e9)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def journal(run: RunDirectory):
    run.record_preparation(Provenance("baseModels/tiny", "r1", "ab" * 32), {})
    with Journal.open(run.journal) as opened:
        yield opened


def saved(run: RunDirectory, journal: Journal, step: int, **facts: object) -> Path:
    path = make_checkpoint(run.checkpoints, step, **facts)
    journal.control("checkpoint", name=path.name, step=step, size_bytes=1, values={})
    return path


def told(run: RunDirectory) -> list[tuple[str, str]]:
    return [(record["name"], record["artifact"]) for record in read(run.journal) if record.get("kind") == "checkpoint_saved"]


async def test_everything_that_was_saved_is_stored_in_order_and_told_once(run, journal, shelf) -> None:
    saved(run, journal, 2, labels=("good",), eval_loss=0.5)
    saved(run, journal, 4)
    delivery = CheckpointDelivery(shelf)
    await delivery.finish(run, journal, 10)
    await delivery.finish(run, journal, 10)
    assert told(run) == [("step-2", "artifacts/2"), ("step-4", "artifacts/4")]
    first, second = shelf.adapters
    assert (first.labels, first.eval_loss, second.labels, second.eval_loss) == (("good",), 0.5, (), None)
    assert {file.path for file in first.files} == {"manifest.json", "shared.safetensors", "rank-0.safetensors"}
    assert (first.result.kind, first.result.step, first.result.metrics["eval_loss"]) == ("CHECKPOINT", 2, 0.5)
    assert first.request_id == f"{run.request.name}/step-2"
    assert first.result.rendered_rows_sha256 == "ab" * 32


async def test_the_event_says_what_the_manifest_says(run, journal, shelf) -> None:
    path = saved(run, journal, 3, labels=("a", "b"), eval_loss=0.25)
    await CheckpointDelivery(shelf).finish(run, journal, 10)
    (record,) = [record for record in read(run.journal) if record.get("kind") == "checkpoint_saved"]
    assert (record["step"], record["labels"], record["values"]["eval_loss"]) == (3, ["a", "b"], 0.25)
    assert record["size_bytes"] == sum(file.stat().st_size for file in path.iterdir() if file.name != "manifest.json")


async def test_while_the_supervisor_writes_it_gets_word(run, journal, shelf) -> None:
    saved(run, journal, 2)
    following = asyncio.create_task(CheckpointDelivery(shelf).follow(run))
    async with asyncio.timeout(20):
        while not (run.stored / "step-2").exists():  # noqa: ASYNC110 - another task makes it
            await asyncio.sleep(0.01)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert told(run) == []
    assert json.loads((run.stored / "step-2").read_text())["artifact"] == "artifacts/2"
    await CheckpointDelivery(shelf).finish(run, journal, 10)
    assert told(run) == [("step-2", "artifacts/2")]
    assert len(shelf.adapters) == 1, "what is committed is not stored again"


async def test_following_ends_when_nothing_of_an_upload_is_left(run, journal, shelf, monkeypatch) -> None:
    """What follows uploads anew, and must not take what is being deleted for a checkpoint."""
    saved(run, journal, 2)
    deleting, disk_is_back, delete = threading.Event(), threading.Event(), shutil.rmtree

    def slowly(path: Path, *, ignore_errors: bool) -> None:
        deleting.set()
        disk_is_back.wait(20)
        delete(path, ignore_errors=ignore_errors)

    following = asyncio.create_task(CheckpointDelivery(shelf).follow(run))
    shelf.before = lambda: monkeypatch.setattr(checkpoint_delivery.shutil, "rmtree", slowly)
    await asyncio.to_thread(deleting.wait, 20)
    following.cancel()
    asyncio.get_running_loop().call_later(0.05, disk_is_back.set)
    await asyncio.gather(following, return_exceptions=True)
    assert list((run.path / "uploading").iterdir()) == []
    await CheckpointDelivery(shelf).finish(run, journal, 10)
    assert told(run) == [("step-2", "artifacts/2")]


async def test_half_of_an_upload_that_a_killed_trainer_left_is_not_taken_for_the_checkpoint(run, journal, shelf) -> None:
    path = saved(run, journal, 2)
    left = run.path / "uploading" / path.name
    left.mkdir(parents=True)
    shutil.copy(path / "manifest.json", left)
    await CheckpointDelivery(shelf).finish(run, journal, 10)
    assert told(run) == [("step-2", "artifacts/2")]


async def test_what_a_supervisor_has_told_before_it_died_is_not_told_again(run, journal, shelf) -> None:
    saved(run, journal, 2)
    fields = {"name": "step-2", "step": 2, "size_bytes": 1, "values": {}, "artifact": "artifacts/2", "labels": []}
    journal.event("checkpoint_saved", **fields)
    leave(run.stored, fields)
    await CheckpointDelivery(shelf).finish(run, journal, 10)
    assert (told(run), shelf.adapters, list(run.stored.iterdir())) == ([("step-2", "artifacts/2")], [], [])


@pytest.mark.parametrize("damage", ["remove", "flip", "cut"])
async def test_one_that_is_gone_or_torn_is_neither_stored_nor_told(run, journal, shelf, damage: str) -> None:
    path = saved(run, journal, 2)
    saved(run, journal, 4)
    file = path / "shared.safetensors"
    data = file.read_bytes()
    if damage == "remove":
        shutil.rmtree(path)
    else:
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if damage == "flip" else data[:-1])
    await CheckpointDelivery(shelf).finish(run, journal, 10)
    assert told(run) == [("step-4", "artifacts/4")]


async def test_one_that_is_deleted_while_it_is_uploaded_arrives_whole(run, journal, shelf) -> None:
    path = saved(run, journal, 2)
    shelf.before = lambda: shutil.rmtree(path)
    await CheckpointDelivery(shelf).finish(run, journal, 10)
    assert told(run) == [("step-2", "artifacts/2")]
    assert not list((run.path / "uploading").iterdir())


async def test_with_storage_away_it_stays_on_this_trainer_and_says_so(run, journal, shelf) -> None:
    saved(run, journal, 2)
    shelf.error = Unavailable("STORAGE_UNAVAILABLE", "gone")
    await CheckpointDelivery(shelf).finish(run, journal, 10)
    assert told(run) == [("step-2", "")]


async def test_storage_that_does_not_come_to_an_end_holds_nobody_up(run, journal, shelf) -> None:
    saved(run, journal, 2)

    async def never(adapter: Adapter) -> StoredAdapter:
        await asyncio.Event().wait()
        raise AssertionError

    shelf.upload_adapter = never
    await CheckpointDelivery(shelf).finish(run, journal, 0.01)
    assert told(run) == [("step-2", "")]


async def test_a_stale_epoch_stores_nothing_and_tells_nothing(run, journal, shelf) -> None:
    saved(run, journal, 2)
    shelf.error = ServiceError("STALE_EPOCH", "epoch 4 has written")
    await CheckpointDelivery(shelf).finish(run, journal, 10)
    assert told(run) == []


async def test_an_error_that_nobody_foresaw_does_not_end_delivery(run, journal, shelf, monkeypatch) -> None:
    monkeypatch.setattr(checkpoint_delivery, "_PAUSE_SECONDS", 0.0)
    saved(run, journal, 2)
    failures = iter([ValueError("a defect"), KeyError("another")])

    def fail() -> None:
        if (error := next(failures, None)) is not None:
            raise error

    shelf.before = fail
    following = asyncio.create_task(CheckpointDelivery(shelf).follow(run))
    async with asyncio.timeout(20):
        while not (run.stored / "step-2").exists():  # noqa: ASYNC110 - another task makes it
            await asyncio.sleep(0.01)
    assert not following.done()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_an_error_that_nobody_foresaw_at_the_end_leaves_the_checkpoint_told(run, journal, shelf) -> None:
    saved(run, journal, 2)

    def fail() -> None:
        raise ValueError("a defect")

    shelf.before = fail
    await CheckpointDelivery(shelf).finish(run, journal, 10)
    assert told(run) == [("step-2", "")]
