"""Early ends by time and by patience, room on the disk, and what memory a batch takes."""

import errno
import math
from types import SimpleNamespace

import pytest
import torch
from training_configs import config, numbers
from training_examples import example

from services.common.catalogue import CATALOGUE
from services.common.errors import ServiceError
from services.common.memory import Memory
from services.trainer.training import rehearsal, room
from services.trainer.training.data import Dataset
from services.trainer.training.diagnosis import disk, memory
from services.trainer.training.diagnosis.early_end import EarlyEnd
from services.trainer.training.diagnosis.movement import Movement
from services.trainer.training.progress import Progress
from services.trainer.training.rehearsal import longest_round


class Clock:
    now = 50.0

    def __call__(self):
        return self.now


class TestTimeLimit:
    def test_time_counts_from_the_start_over_all_attempts(self):
        clock, progress = Clock(), Progress(seconds=30.0)
        end = EarlyEnd(numbers(time_limit_seconds=100.0), progress, clock)
        clock.now += 69.0
        assert not end.is_out_of_time()
        clock.now += 1.0
        assert end.is_out_of_time()
        assert progress.seconds == 100.0

    def test_without_a_limit_time_is_only_counted(self):
        clock, progress = Clock(), Progress()
        end = EarlyEnd(numbers(), progress, clock)
        clock.now += 1e9
        assert not end.is_out_of_time()
        assert progress.seconds == 1e9

    def test_it_ends_the_run_with_the_numbers(self):
        progress = Progress()
        finding = EarlyEnd(numbers(time_limit_seconds=60.0), progress, Clock()).out_of_time(7, 20)
        assert (finding.reason, progress.ended) == ("TIME_LIMIT_REACHED", "TIME_LIMIT_REACHED")
        assert "60 s was reached after step 7 of 20" in finding.message


def patience(progress, *losses, **changes):
    """What is said after each loss, as the loop goes about it."""
    end, told = EarlyEnd(numbers(**changes), progress, Clock()), []
    for step, loss in enumerate(losses, start=1):
        told.append(end.evaluated(step, loss))
        if math.isfinite(loss) and (progress.best_eval_loss is None or loss < progress.best_eval_loss):
            progress.best_eval_loss, progress.best_step = loss, step
    return told


class TestPatience:
    def test_so_many_in_a_row_without_gain_end_the_run(self):
        progress = Progress()
        told = patience(progress, 3.0, 2.0, 2.1, 1.9, 2.0, 1.9, early_stopping_patience=2)
        assert [finding is not None for finding in told] == [False] * 5 + [True]
        assert progress.ended == told[-1].reason == "EARLY_STOPPED"
        assert "2 times in a row" in told[-1].message
        assert "best was 1.9 after step 4" in told[-1].message

    def test_a_gain_within_the_delta_is_none(self):
        assert patience(Progress(), 2.0, 1.95, 1.9, early_stopping_patience=2, early_stopping_min_delta=0.1)[-1]
        assert not any(patience(Progress(), 2.0, 1.8, 1.6, early_stopping_patience=1, early_stopping_min_delta=0.1))

    def test_what_the_attempt_before_saw_counts(self):
        progress = Progress(best_eval_loss=1.0, best_step=3, evaluations_without_gain=1)
        assert patience(progress, 1.5, early_stopping_patience=2)[0]

    def test_a_loss_that_is_not_finite_is_no_gain(self):
        assert patience(Progress(), 2.0, math.nan, math.inf, early_stopping_patience=2)[-1]

    def test_without_patience_nothing_ends(self):
        assert not any(patience(Progress(), *[2.0] * 50))


class TestDisk:
    @pytest.fixture
    def free(self, monkeypatch):
        def set_free(size):
            monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=size))

        return set_free

    def test_what_is_free_is_that_of_the_nearest_directory_that_exists(self, tmp_path):
        assert disk.free_bytes(tmp_path / "not" / "yet") == pytest.approx(disk.free_bytes(tmp_path), rel=0.1)

    def test_a_checkpoint_without_room_is_refused_before_it_is_written_with_the_numbers(self, tmp_path, free):
        free(disk.RESERVE_BYTES + 5_000_000)
        disk.check_room(tmp_path, 5_000_000)
        with pytest.raises(OSError, match=r"needs 5\.0 MB and a reserve of 32\.0 MB, but 37\.0 MB are free") as caught:
            disk.check_room(tmp_path, 5_000_001)
        assert caught.value.errno == errno.ENOSPC
        assert disk.is_full(caught.value)

    @pytest.mark.parametrize("error", [OSError(errno.EIO, "x"), ValueError("x")], ids=["io", "value"])
    def test_other_trouble_is_not_a_full_disk(self, error):
        assert not disk.is_full(error)

    def test_before_the_first_step_too_little_fails_tight_warns_and_enough_says_nothing(self, tmp_path, free):
        sizes = {"checkpoint": 10_000_000, "kept": 2, "result": 20_000_000}
        free(disk.RESERVE_BYTES + 29_999_999)
        with pytest.raises(ServiceError, match=r"takes about 10\.0 MB, the result 20\.0 MB, and 62\.0 MB are free") as caught:
            disk.foreseen(tmp_path, **sizes)
        assert (caught.value.reason, caught.value.error_class.value) == ("DISK_FULL", "platform")
        free(disk.RESERVE_BYTES + 59_999_999)
        assert disk.foreseen(tmp_path, **sizes).reason == "DISK_FULL"
        free(disk.RESERVE_BYTES + 60_000_000)
        assert disk.foreseen(tmp_path, **sizes) is None

    def test_sizes_are_those_of_all_tensors(self):
        assert disk.size_of([{"a": torch.zeros(3)}, {"b": torch.zeros(2, dtype=torch.uint8)}]) == 14

    @pytest.mark.parametrize(("tuning", "result"), [("lora", 40), ("full", 400)])
    def test_the_result_of_full_tuning_is_the_whole_model(self, tmp_path, monkeypatch, tuning, result):
        asked, told = {}, []
        monkeypatch.setattr(room, "foreseen", lambda _, **sizes: asked.update(sizes) or disk.Finding("DISK_FULL", "m", 0))
        sink = SimpleNamespace(anomaly=lambda *given: told.append(given))
        room.check_room(config(paths={"tuning": tuning}), tmp_path, (10, 100), sink)
        assert asked == {"checkpoint": 120, "kept": 2, "result": result}
        assert told == [("DISK_FULL", "m", 0)]


MODEL = SimpleNamespace(
    num_hidden_layers=2,
    hidden_size=32,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=64,
    vocab_size=100,
)
SHAPE = memory.Shape(layers=2, hidden=32, key_value=16, intermediate=64, vocabulary=100)


class TestMemory:
    def test_the_shape_is_read_from_a_configuration(self):
        assert memory.Shape.of(MODEL) == SHAPE

    def test_a_configuration_without_the_newer_numbers_has_those_of_old(self):
        given = SimpleNamespace(num_hidden_layers=1, hidden_size=8, num_attention_heads=2, vocab_size=5)
        assert memory.Shape.of(given) == memory.Shape(1, 8, 8, 32, 5)

    def test_it_grows_with_tokens_and_with_targets(self):
        one = memory.working_bytes(SHAPE, 1, 0)
        assert one == round(4 * 1.5 * 2 * (10 * 32 + 2 * 16 + 4 * 64))
        assert memory.working_bytes(SHAPE, 100, 0) == 100 * one
        assert memory.working_bytes(SHAPE, 0, 7) == 4 * 7 * 100 * 3


class TestRehearsal:
    def data(self, *lengths):
        return Dataset(tuple(example(range(length), (1,)) for length in lengths))

    def test_the_longest_row_runs_with_those_it_will_run_with(self):
        lengths = [5, 50, 6, 7, 8, 9, 10, 11, 12, 13]
        cut = longest_round(lengths, numbers(global_batch_size=4, per_device_train_batch_size=2))
        assert len(cut) == 1
        assert 1 in cut[0]
        assert len(cut[0]) == 2

    def test_every_rank_has_its_part_of_the_round(self):
        changes = {"global_batch_size": 8, "per_device_train_batch_size": 2, "num_processes": 2}
        cut = longest_round(list(range(5, 21)), numbers(**changes))
        assert len(cut) == 2
        assert sum(15 in batch for batch in cut) == 1

    def test_rows_that_the_run_never_sees_do_not_count(self):
        lengths = [5] * 7 + [500]
        for seed in range(20):
            changes = {"global_batch_size": 2, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1}
            cut = longest_round(lengths, numbers(max_steps=1, seed=seed, **changes))
            assert len(cut[0]) == 2

    @pytest.mark.parametrize(
        ("changes", "device", "available", "rehearses"),
        [
            ({}, "cpu", 10**12, False),
            ({}, "cpu", 10**5, True),
            ({}, "cuda", 10**12, True),
            ({"rehearsal": "never"}, "cuda", 1, False),
            ({"rehearsal": "always"}, "cpu", 10**12, True),
            ({"rehearsal": "always", "zero_stage": 3}, "cuda", 1, False),
        ],
        ids=["cpu", "tight", "gpu", "never", "always", "zero3"],
    )
    def test_when_it_pays(self, monkeypatch, changes, device, available, rehearses):
        monkeypatch.setattr(rehearsal.memory, "read", lambda: Memory(10**13, available))
        run = []
        engine = SimpleNamespace(rank=0, rehearse=run.append, device_type=device, exchange=lambda values: [values])
        assert rehearsal.rehearse(engine, self.data(5, 9, 7), numbers(**changes), MODEL) is rehearses
        assert bool(run) is rehearses
        if run:
            assert max(each.token_count for each in run[0]) == 9

    def test_all_ranks_rehearse_when_one_has_to(self, monkeypatch):
        monkeypatch.setattr(rehearsal.memory, "read", lambda: Memory(10**13, 10**12))
        run = []
        engine = SimpleNamespace(rank=0, rehearse=run.append, device_type="cpu", exchange=lambda values: [values, [True]])
        assert rehearsal.rehearse(engine, self.data(5, 9, 7), numbers(), MODEL)
        assert len(run) == 1


def test_movement_is_relative_to_the_size_and_to_the_last_look():
    movement = Movement(torch.tensor([3.0, 4.0]))
    assert movement.since(torch.tensor([3.0, 4.0])) == 0.0
    assert movement.since(torch.tensor([6.0, 8.0])) == 0.5
    assert movement.since(torch.tensor([6.0, 8.0])) == 0.0
    assert Movement(torch.empty(0)).since(torch.empty(0)) is None
    assert Movement(torch.zeros(2)).since(torch.zeros(2)) == 0.0


@pytest.mark.parametrize("reason", ["LOSS_SPIKE", "LOSS_PLATEAU", "OVERFITTING", "LEARNING_RATE_WITHOUT_EFFECT", "EARLY_STOPPED"])
def test_what_is_found_has_an_entry_with_an_advice(reason):
    assert CATALOGUE[reason].hint
