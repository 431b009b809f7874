"""A run continues from the last committed checkpoint wherever it is, and from the one before it when that is damaged."""

import hashlib
import shutil
from pathlib import Path

import pytest
from checkpoint_values import make_checkpoint
from trainer_values import TASK, make_request

from services.common.errors import NotFound, ServiceError, Unavailable
from services.trainer.restoring import Restoring, newest_whole
from services.trainer.run_directory import RunDirectory
from services.trainer.storage_client import AdapterFile, StoredCheckpoint


class Shelf:
    """Checkpoints in a directory, by name of their artifact; `broken` are errors by artifact."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stored: list[StoredCheckpoint] = []
        self.broken: dict[str, ServiceError] = {}
        self.fetched: list[str] = []

    def add(self, step: int, attempt: int = 1, best_step: int = 0, **numbers: object) -> StoredCheckpoint:
        path = make_checkpoint(self.root / str(len(self.stored)), step, best_step=best_step, numbers=numbers)
        files = tuple(_file(file.name, file.read_bytes()) for file in sorted(path.iterdir()))
        self.stored.append(StoredCheckpoint(str(path), step, attempt, files, float(len(self.stored))))
        return self.stored[-1]

    async def list_checkpoints(self, task: str) -> list[StoredCheckpoint]:
        assert task == f"tasks/{TASK}"
        return self.stored

    async def fetch_file(self, artifact: str, file: AdapterFile, target: Path) -> None:
        if artifact in self.broken:
            raise self.broken[artifact]
        self.fetched.append(artifact)
        shutil.copy(Path(artifact) / file.path, target)


def _file(name: str, content: bytes) -> AdapterFile:
    return AdapterFile(name, len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    (tmp_path / "runs").mkdir()
    return RunDirectory.create(tmp_path / "runs", make_request(name=f"runs/{TASK}-3", attempt=3))


async def restored(run: RunDirectory, shelf: Shelf, notes: list[str] | None = None) -> int:
    said = [] if notes is None else notes
    return await Restoring(shelf).restore(run, lambda text, severity="INFO": said.append(text))


async def test_without_a_checkpoint_it_begins_anew(run, shelf) -> None:
    assert await restored(run, shelf) == 0


async def test_the_newest_step_is_fetched_and_only_that(run, shelf) -> None:
    for step in (10, 30, 20):
        shelf.add(step)
    notes: list[str] = []
    assert await restored(run, shelf, notes) == 30
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-30"]
    assert newest_whole(run.checkpoints, {}) == 30
    assert notes == ["fetched the checkpoint of step 30 from storage"]


async def test_the_best_one_comes_along_because_an_early_stop_ends_with_it(run, shelf) -> None:
    for step in (10, 20, 30):
        shelf.add(step, best_step=10)
    notes: list[str] = []
    assert await restored(run, shelf, notes) == 30
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["step-10", "step-30"]
    assert notes[1] == "fetched the checkpoint of step 10, which had the best validation loss"
    shelf.fetched.clear()
    assert (await restored(run, shelf), shelf.fetched) == (30, [])


async def test_without_the_best_one_in_storage_the_newest_is_enough(run, shelf) -> None:
    shelf.add(30, best_step=10)
    assert await restored(run, shelf) == 30
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-30"]


async def test_what_is_here_already_is_not_fetched(run, shelf) -> None:
    shelf.add(10)
    make_checkpoint(run.checkpoints, 10)
    make_checkpoint(run.checkpoints, 12)
    assert (await restored(run, shelf), shelf.fetched) == (12, [])


async def test_one_here_of_other_numbers_does_not_keep_the_stored_one_away(run, shelf) -> None:
    shelf.add(10, learning_rate=0.5)
    make_checkpoint(run.checkpoints, 12, numbers={"learning_rate": 0.1})
    assert await restored(run, shelf) == 10


async def test_a_stored_one_of_other_numbers_gives_way_to_the_one_before(run, shelf) -> None:
    shelf.add(10, learning_rate=0.5)
    shelf.add(20, learning_rate=0.1)
    assert await restored(run, shelf) == 10


@pytest.mark.parametrize(
    ("held", "asked", "expected"),
    [
        (
            {"seed": 1, "lora": {"rank": 4, "target_modules": ["q_proj"]}},
            {"lora": {"rank": 4, "target_modules": ("q_proj",)}},
            True,
        ),
        ({"seed": 1}, {"seed": 2}, False),
        ({"lora": {"rank": 4}}, {"lora": {"rank": 8}}, False),
        ({"precision": "bf16"}, {"precision": None}, True),
        ({"precision": "bf16"}, {"precision": "fp32"}, False),
        ({}, {"seed": 1, "max_steps": 3}, True),
        # Of a version that had fewer numbers.
        ({"lora": {"rank": 4}}, {"lora": {"rank": 4, "last_layers": 0}}, True),
        ({"lora": {"rank": 4, "last_layers": 2}}, {"lora": {"rank": 4, "last_layers": 3}}, False),
    ],
)
def test_numbers_that_both_know_must_be_the_same(tmp_path, held, asked, expected: bool) -> None:
    make_checkpoint(tmp_path, 3, numbers=held)
    assert newest_whole(tmp_path, asked) == (3 if expected else 0)


async def test_a_torn_one_here_is_replaced(run, shelf) -> None:
    shelf.add(10)
    torn = make_checkpoint(run.checkpoints, 10)
    (torn / "shared.safetensors").write_bytes(b"")
    assert await restored(run, shelf) == 10
    assert newest_whole(run.checkpoints, {}) == 10


@pytest.mark.parametrize("name", ["shared.safetensors", "rank-0.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut"])
async def test_a_damaged_one_in_storage_gives_way_to_the_one_before(run, shelf, name: str, damage: str) -> None:
    shelf.add(10)
    file = Path(shelf.add(20).name) / name
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] if damage == "cut" else bytes([data[0] ^ 1]) + data[1:])
    notes: list[str] = []
    assert await restored(run, shelf, notes) == 10
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-10"]
    assert "step 20 cannot be used" in notes[0]


@pytest.mark.parametrize(
    "error", [NotFound("ARTIFACT_EXPIRED", "artifacts/x"), ServiceError("CHECKSUM_MISMATCH", "other bytes")], ids=str
)
async def test_one_that_cannot_be_had_gives_way_to_the_one_before(run, shelf, error: ServiceError) -> None:
    shelf.add(10)
    shelf.broken[shelf.add(20).name] = error
    assert await restored(run, shelf) == 10


async def test_storage_that_is_away_is_waited_for_and_never_costs_steps(run, shelf) -> None:
    shelf.add(10)
    shelf.broken[shelf.add(20).name] = Unavailable("STORAGE_UNAVAILABLE", "gone")
    with pytest.raises(Unavailable):
        await restored(run, shelf)
    assert newest_whole(run.checkpoints, {}) == 0
    shelf.broken.clear()
    assert await restored(run, shelf) == 20


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "optimizer.pt", "rank-0.safetensors/x", ""])
async def test_a_file_that_no_checkpoint_has_is_never_written(run, shelf, name: str) -> None:
    shelf.stored.append(StoredCheckpoint("artifacts/x", 5, 1, (AdapterFile(name, 1, "ab" * 32),), 0.0))
    assert (await restored(run, shelf), shelf.fetched) == (0, [])


async def test_attempts_before_a_new_beginning_do_not_count(tmp_path, shelf) -> None:
    shelf.add(50, attempt=1)
    shelf.add(10, attempt=2)
    (tmp_path / "r").mkdir()
    run = RunDirectory.create(tmp_path / "r", make_request(name=f"runs/{TASK}-3", attempt=3, first_attempt=2))
    assert await restored(run, shelf) == 10


async def test_of_the_same_step_the_later_one_counts(run, shelf) -> None:
    shelf.add(10, attempt=1)
    later = shelf.add(10, attempt=2)
    assert await restored(run, shelf) == 10
    assert set(shelf.fetched) == {later.name}
