"""Smaller micro-batches at the same global batch, and how the kernel's kills are counted."""

import json
from pathlib import Path

import pytest

from services.trainer.batch_cut import cut, halved, hint
from services.trainer.history import History
from services.trainer.inheritance import inherit
from services.trainer.kernel_kills import out_of_memory_kills
from services.trainer.training import batch_cut


def sizes(per_device: int, accumulation: int) -> dict[str, int]:
    return {"per_device_train_batch_size": per_device, "gradient_accumulation_steps": accumulation}


@pytest.mark.parametrize(
    ("before", "after"),
    [((8, 2), (4, 4)), ((2, 1), (1, 2)), ((3, 2), (1, 6)), ((6, 1), (3, 2)), ((5, 4), (2, 10)), ((7, 1), (1, 7))],
    ids=str,
)
def test_at_most_half_at_the_same_share(before, after) -> None:
    assert halved(sizes(*before)) == sizes(*after)
    assert before[0] * before[1] == after[0] * after[1]


def test_a_single_row_cannot_be_halved() -> None:
    assert halved(sizes(1, 16)) is None


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"hyperparameters": {**sizes(8, 1), "max_seq_length": 2048}}))
    return path


def test_each_cut_goes_on_from_the_one_before_and_is_what_training_reads(config: Path) -> None:
    assert batch_cut.read(config) == {}
    for per_device in (4, 2, 1):
        assert cut(config) == batch_cut.read(config) == sizes(per_device, 8 // per_device)
    assert cut(config) is None
    assert batch_cut.read(config) == sizes(1, 8)
    assert json.loads(config.read_text())["hyperparameters"]["per_device_train_batch_size"] == 8


@pytest.mark.parametrize(
    ("longest", "text"),
    [
        ("1000", "max_seq_length to 500 or less (the longest row has 1,000 tokens)"),
        ("", "max_seq_length to 1024 or less,"),
        ("9", "to 8 or less"),
    ],
    ids=["known", "unknown", "short"],
)
def test_what_helps_when_single_rows_are_too_much(config: Path, longest: str, text: str) -> None:
    assert text in hint(config, longest)


def test_a_new_attempt_inherits_the_cut_of_the_newest_and_keeps_its_own(tmp_path: Path) -> None:
    older, oldest, own = tmp_path / "2", tmp_path / "1", tmp_path / "3"
    for directory, text in ((older, "newer"), (oldest, "older")):
        directory.mkdir()
        (directory / "batch_cut.json").write_text(text)
    inherit(own, [(older, History()), (oldest, History())])
    assert (own / "batch_cut.json").read_text() == "newer"
    (own / "batch_cut.json").write_text("own")
    inherit(own, [(older, History()), (oldest, History())])
    assert [path.name for path in own.iterdir()] == ["batch_cut.json"]
    assert (own / "batch_cut.json").read_text() == "own"


def test_the_kernels_counter_is_read_where_there_is_one(tmp_path: Path) -> None:
    counters = tmp_path / "vmstat"
    assert out_of_memory_kills(counters) == 0
    counters.write_text("nr_free_pages 5\noom_kill 3\noom_kill_x 9\n")
    assert out_of_memory_kills(counters) == 3
    counters.write_text("nr_free_pages 5\n")
    assert out_of_memory_kills(counters) == 0


def test_passes_that_were_put_together_are_kept_apart_before_anything_is_given_up(config: Path) -> None:
    config.write_text(json.dumps({"hyperparameters": sizes(1, 8)}))
    assert cut(config) == batch_cut.read(config) == sizes(1, 8)
    assert cut(config) is None


def test_a_cut_of_another_batch_is_none(config: Path) -> None:
    assert cut(config) == sizes(4, 2)
    assert batch_cut.fitting(config, sizes(2, 4)) == sizes(4, 2)
    assert batch_cut.fitting(config, sizes(2, 2)) == {}
    config.write_text(json.dumps({"hyperparameters": sizes(4, 1)}))
    assert cut(config) == sizes(2, 2)
